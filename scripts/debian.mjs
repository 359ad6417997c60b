// Gets a program or library of a Debian package: it is unpacked into tmp/, nothing is installed and no
// service begins.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const GET_MS = 180_000;

/** Where the package is unpacked, whether or not it has been yet. */
export function unpackedDir(name) {
  return fileURLToPath(new URL(`../tmp/${name}`, import.meta.url));
}

/** Null where `file` could be got out of the package, else why not. */
export function unpack(packageName, dir, file) {
  process.stderr.write(`pgtide: getting ${packageName} for the tests …\n`);
  mkdirSync(dir, { recursive: true });
  const download = () => run(dir, 'apt-get', ['download', '-q', packageName]);
  // A fresh machine has no package lists yet.
  if (download() !== null && (run(dir, 'apt-get', ['update', '-q']) !== null || download() !== null))
    return `apt-get download ${packageName} failed`;
  const deb = readdirSync(dir).find((name) => name.endsWith('.deb'));
  if (!deb) return 'apt-get brought no package';
  return run(dir, 'dpkg', ['-x', deb, '.']) ?? (existsSync(join(dir, file)) ? null : `the package has no ${file}`);
}

function run(cwd, command, args) {
  const { status, error } = spawnSync(command, args, { cwd, stdio: 'ignore', timeout: GET_MS });
  return status === 0 ? null : `${command} ${args[0]}: ${error?.message ?? `status ${status}`}`;
}
