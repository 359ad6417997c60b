// Finds the etcd server that some tests start, or gets Debian's: its package is unpacked into tmp/, nothing is installed and no service begins.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const dir = fileURLToPath(new URL('../tmp/etcd', import.meta.url));
const unpacked = join(dir, 'usr', 'bin', 'etcd');
const GET_MS = 180_000;

/** Path of an etcd server; null, said on standard error, where there is none and none can be had. */
export function findEtcd() {
  const places = [
    process.env.PGTIDE_ETCD,
    unpacked,
    ...(process.env.PATH ?? '').split(':').map((p) => join(p, 'etcd')),
  ];
  const found = places.find((place) => place && existsSync(place));
  if (found) return found;
  const why = get();
  if (why === null) return unpacked;
  process.stderr.write(
    `pgtide: NO ETCD, its tests will be SKIPPED: ${why} (apt-get install etcd-server, or set PGTIDE_ETCD)\n`,
  );
  return null;
}

/** Null where it worked, else why not. */
function get() {
  process.stderr.write('pgtide: getting etcd-server for the tests …\n');
  mkdirSync(dir, { recursive: true });
  const download = () => run('apt-get', ['download', '-q', 'etcd-server']);
  // A fresh machine has no package lists yet.
  if (download() !== null && (run('apt-get', ['update', '-q']) !== null || download() !== null))
    return 'apt-get download etcd-server failed';
  const deb = readdirSync(dir).find((name) => name.endsWith('.deb'));
  if (!deb) return 'apt-get brought no package';
  return run('dpkg', ['-x', deb, '.']) ?? (existsSync(unpacked) ? null : 'the package has no usr/bin/etcd');
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: dir, stdio: 'ignore', timeout: GET_MS });
  return status === 0 ? null : `${command} ${args[0]}: ${error?.message ?? `status ${status}`}`;
}
