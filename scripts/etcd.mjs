// Finds the etcd server that some tests start, or gets Debian's.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { unpack, unpackedDir } from './debian.mjs';

const dir = unpackedDir('etcd');
const file = join('usr', 'bin', 'etcd');
const unpacked = join(dir, file);

/** Path of an etcd server; null, said on standard error, where there is none and none can be had. */
export function findEtcd() {
  const places = [
    process.env.PGTIDE_ETCD,
    unpacked,
    ...(process.env.PATH ?? '').split(':').map((p) => join(p, 'etcd')),
  ];
  const found = places.find((place) => place && existsSync(place));
  if (found) return found;
  const why = unpack('etcd-server', dir, file);
  if (why === null) return unpacked;
  process.stderr.write(
    `pgtide: NO ETCD, its tests will be SKIPPED: ${why} (apt-get install etcd-server, or set PGTIDE_ETCD)\n`,
  );
  return null;
}
