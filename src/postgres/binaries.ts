import { access, constants, realpath } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { tideError } from '../core/errors.ts';
import { embeddedBinDir } from './embedded.ts';
import { exec } from './exec.ts';

/** The one major version whose replication and catalogs pgtide is written for. */
export const POSTGRES_MAJOR = 18;

/** Libraries without which partitions could neither be replicated nor reached from other nodes. */
const NEEDED_LIBRARIES = ['postgres_fdw', 'pgoutput', 'libpqwalreceiver'];

export interface PostgresBinaries {
  readonly binDir: string;
  readonly postgres: string;
  readonly initdb: string;
  /** `18.4` */
  readonly version: string;
}

/**
 * Finds a usable PostgreSQL 18: in `postgresBin` (`--postgres-bin`) where that is given, else the embedded
 * npm package. Throws POSTGRES_MISSING, POSTGRES_WRONG_VERSION, POSTGRES_INCOMPLETE, POSTGRES_UNUSABLE.
 */
export async function findBinaries(postgresBin?: string): Promise<PostgresBinaries> {
  const binDir = postgresBin === undefined ? await embeddedBinDir() : await realBinDir(postgresBin);
  const blocked = await blockingParent(binDir);
  if (blocked !== null) {
    const why = `the user '${userInfo().username}' that it would run as cannot enter ${blocked}`;
    throw tideError('POSTGRES_UNUSABLE', { where: binDir, why });
  }
  const [postgres, initdb] = [join(binDir, 'postgres'), join(binDir, 'initdb')];
  for (const file of [postgres, initdb]) {
    if (!(await exists(file))) throw tideError('POSTGRES_MISSING', { where: binDir, what: `there is no ${file}` });
  }
  const version = await versionOf(postgres);
  await requireLibraries(binDir);
  return { binDir, postgres, initdb, version };
}

/** PostgreSQL finds its libraries relative to its real place, not to the link it is started by; so do we. */
async function realBinDir(dir: string): Promise<string> {
  const given = resolve(dir);
  const real = await realpath(join(given, 'postgres')).catch(() => null);
  return real === null ? given : dirname(real);
}

/**
 * The topmost directory on the way to (and including) `dir` that this process cannot enter, null where it
 * gets there or there is none.
 */
async function blockingParent(dir: string): Promise<string | null> {
  const parents = [dir];
  for (let at = dir; at !== dirname(at); at = dirname(at)) parents.unshift(dirname(at));
  for (const parent of parents) {
    const code = await access(parent, constants.X_OK).then(
      () => null,
      (error: NodeJS.ErrnoException) => error.code,
    );
    if (code === 'EACCES') return parent;
  }
  return null;
}

async function versionOf(postgres: string): Promise<string> {
  const { status, stdout, stderr, startError } = await exec(postgres, ['--version']);
  const found = /\(PostgreSQL\) (\d+)(\S*)/.exec(stdout);
  if (status !== 0 || found === null) {
    const why = startError?.message ?? `${postgres} --version says: ${(stderr || stdout).trim() || `status ${status}`}`;
    throw tideError('POSTGRES_UNUSABLE', { where: dirname(postgres), why });
  }
  const version = `${found[1]}${found[2]}`;
  if (Number(found[1]) !== POSTGRES_MAJOR) {
    throw tideError('POSTGRES_WRONG_VERSION', { where: postgres, found: version, wanted: POSTGRES_MAJOR });
  }
  return version;
}

async function requireLibraries(binDir: string): Promise<void> {
  const dirs = await libraryDirs(binDir);
  const missing: string[] = [];
  for (const library of NEEDED_LIBRARIES) {
    const files = dirs.flatMap((dir) => [join(dir, `${library}.so`), join(dir, `${library}.dylib`)]);
    const found = await Promise.all(files.map(exists));
    if (!found.includes(true)) missing.push(library);
  }
  if (missing.length > 0) throw tideError('POSTGRES_INCOMPLETE', { where: binDir, missing: missing.join(', ') });
}

/** Where its build says libraries are, else where builds usually put them. */
async function libraryDirs(binDir: string): Promise<string[]> {
  const { status, stdout } = await exec(join(binDir, 'pg_config'), ['--pkglibdir']);
  const usual = ['lib/postgresql', 'lib', 'lib64/postgresql', 'lib64/pgsql', 'lib/pgsql', 'lib64'];
  const told = status === 0 ? [stdout.trim()] : [];
  return [...told, ...usual.map((dir) => join(dirname(binDir), dir))];
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
