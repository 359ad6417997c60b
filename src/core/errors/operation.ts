import { entry } from './entry.ts';

/** Errors of running operations. */
export const operationErrors = {
  OP_UNKNOWN: entry<{ id: number }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `operation ${d.id} does not exist`,
    hint: () => 'tide op ls lists the operations',
  }),
};
