// Finds the library with which tests set the clock of single processes, or gets Debian's.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { unpack, unpackedDir } from './debian.mjs';

const dir = unpackedDir('faketime');
/** The variant for processes with threads. */
const NAME = join('faketime', 'libfaketimeMT.so.1');

/** Path of the library; null, said on standard error, where there is none and none can be had. */
export function findFaketime() {
  const found = [process.env.PGTIDE_FAKETIME, ...under('/'), ...under(dir)].find((p) => p && existsSync(p));
  if (found) return found;
  const why = unpack('libfaketime', dir, join('usr', 'lib'));
  const [unpacked] = under(dir);
  if (unpacked) return unpacked;
  process.stderr.write(
    `pgtide: NO FAKETIME, tests of clocks that jump will be SKIPPED: ${why ?? `the package has no ${NAME}`} (apt-get install libfaketime, or set PGTIDE_FAKETIME)\n`,
  );
  return null;
}

/** Debian has a folder for each kind of machine. */
function under(root) {
  const lib = join(root, 'usr', 'lib');
  if (!existsSync(lib)) return [];
  return readdirSync(lib)
    .map((machine) => join(lib, machine, NAME))
    .filter((file) => existsSync(file));
}
