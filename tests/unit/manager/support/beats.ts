import { META_FORMAT } from '../../../../src/store/meta-store.ts';

/** What a node says of itself that is well; which one says it is missing. */
export const HEALTHY = {
  postgresUp: true,
  fenced: false,
  barred: false,
  metaFormat: META_FORMAT,
  diskTotalBytes: 100,
  diskFreeBytes: 50,
};
