import { statfs } from 'node:fs/promises';
import { API_VERSION, type NodeFacts } from '../api/membership.ts';
import type { StartOptions } from '../api/start-options.ts';
import { tideError } from '../core/errors.ts';
import type { Addresses } from './addresses.ts';
import { STORE_FORMAT } from './store-dir.ts';
import { formatAddress } from './tcp-address.ts';

/** Reads `--locality`: `region=eu,zone=a`, most general first. Throws BAD_LOCALITY. */
export function parseLocality(value: string | undefined): NodeFacts['locality'] {
  if (value === undefined || value === '') return [];
  const seen = new Set<string>();
  return value.split(',').map((part) => {
    const match = /^([\w-]+)=([\w.-]+)$/.exec(part.trim());
    const [, key, tier] = match ?? [];
    if (key === undefined || tier === undefined) {
      throw tideError('BAD_LOCALITY', { value, why: `"${part}" is not of the form key=value` });
    }
    if (seen.has(key)) throw tideError('BAD_LOCALITY', { value, why: `${key} is there twice` });
    seen.add(key);
    return { key, value: tier };
  });
}

/** Room on the file system that holds the store, bytes. */
export async function diskOf(path: string): Promise<{ diskTotalBytes: number; diskFreeBytes: number }> {
  const stats = await statfs(path);
  return { diskTotalBytes: stats.blocks * stats.bsize, diskFreeBytes: stats.bavail * stats.bsize };
}

/** What a node tells about itself. */
export function nodeFacts(
  { attrs, locality }: Pick<StartOptions, 'attrs' | 'locality'>,
  { advertise, http }: Addresses,
  made: Pick<NodeFacts, 'build' | 'startedAt' | 'startMode' | 'postgresPort'>,
): NodeFacts {
  return {
    api: API_VERSION,
    storeFormat: STORE_FORMAT,
    address: formatAddress(advertise),
    httpAddress: formatAddress({ ...http, host: http.host || advertise.host }),
    postgresHost: advertise.host,
    locality: parseLocality(locality),
    attrs: (attrs ?? '')
      .split(',')
      .map((a) => a.trim())
      .filter((a) => a !== ''),
    ...made,
  };
}
