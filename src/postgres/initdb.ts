import { appendFile, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { tideError } from '../core/errors.ts';
import { POSTGRES_MAJOR, type PostgresBinaries } from './binaries.ts';
import { CONFIG_FILE, renderHba, TIDE_BOOTSTRAP, TIDE_DATABASE, TIDE_USER } from './config.ts';
import { type ExecResult, exec } from './exec.ts';
import { diskFailure, storeError } from './failures.ts';
import { INCLUDE_FENCE, MANAGER_ROLE } from './fence.ts';

/**
 * Makes the data directory with its roles and the database `tide`, where it is not there yet. Clients are
 * superusers until the manager has taken the node in (`sql/weaken.ts`): it may be one of version 0.1.0, which
 * works as their role. It is built in `<dataDir>.new` and renamed when whole: an interrupted initdb leaves
 * nothing that a later start would take for a data directory. Throws POSTGRES_DATA_VERSION,
 * POSTGRES_INIT_FAILED, STORE_FULL, STORE_READ_ONLY, STORE_DAMAGED.
 */
export async function ensureDataDir(dataDir: string, binaries: PostgresBinaries): Promise<'made' | 'present'> {
  const version = await readFile(join(dataDir, 'PG_VERSION'), 'utf8').catch(() => null);
  if (version !== null) {
    if (Number(version) === POSTGRES_MAJOR) return 'present';
    throw tideError('POSTGRES_DATA_VERSION', { dataDir, found: version.trim(), wanted: POSTGRES_MAJOR });
  }
  const fresh = `${dataDir}.new`;
  try {
    await rm(fresh, { recursive: true, force: true });
    await mkdir(fresh, { mode: 0o700 });
    await fill(fresh, dataDir, binaries);
    await putInPlace(fresh, dataDir);
    return 'made';
  } catch (error) {
    await rm(fresh, { recursive: true, force: true }).catch(() => {});
    throw storeError(dataDir, error);
  }
}

const ROLES = [MANAGER_ROLE, `CREATE ROLE ${TIDE_USER} SUPERUSER LOGIN`, `ALTER ROLE ${TIDE_BOOTSTRAP} NOLOGIN`];

async function fill(fresh: string, dataDir: string, binaries: PostgresBinaries): Promise<void> {
  const options = [
    ['--pgdata', fresh],
    ['--username', TIDE_BOOTSTRAP],
    ['--auth', 'trust'],
    ['--encoding', 'UTF8'],
    // The built-in provider sorts alike on every machine, whatever its C library: nodes have to agree on
    // order.
    ['--locale-provider', 'builtin'],
    ['--builtin-locale', 'C.UTF-8'],
    ['--locale', 'C'],
  ];
  const flags = ['--data-checksums', '--no-instructions'];
  requireDone(await exec(binaries.initdb, [...options.flat(), ...flags]), dataDir);

  const single = ['--single', '-D', fresh, '-c', 'exit_on_error=true', 'postgres'];
  const created = await exec(binaries.postgres, single, {
    input: `${ROLES.join(';\n')};\nCREATE DATABASE ${TIDE_DATABASE} OWNER ${TIDE_USER};\n`,
  });
  requireDone(created, dataDir);

  await appendFile(join(fresh, 'postgresql.conf'), `\ninclude '${CONFIG_FILE}'\n`);
  await writeFile(join(fresh, 'pg_hba.conf'), `${INCLUDE_FENCE}\n${renderHba()}`);
  // Has to exist from here on, because it is included; every start writes it anew.
  await writeFile(join(fresh, CONFIG_FILE), '');
}

function requireDone({ status, stdout, stderr, startError }: ExecResult, dataDir: string): void {
  if (status === 0) return;
  const said = startError?.message ?? `${stdout}\n${stderr}`;
  const why = (startError?.message ?? (stderr || stdout)).trim();
  throw (
    diskFailure(dataDir, said) ?? tideError('POSTGRES_INIT_FAILED', { dataDir, why: why || `exit status ${status}` })
  );
}

async function putInPlace(fresh: string, dataDir: string): Promise<void> {
  for (const name of ['postgresql.conf', 'pg_hba.conf', CONFIG_FILE, '.']) await syncPath(join(fresh, name));
  try {
    await rename(fresh, dataDir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
    throw tideError('STORE_DAMAGED', { file: dataDir, why: 'it is not empty, but has no PG_VERSION' });
  }
  await syncPath(dirname(dataDir));
}

async function syncPath(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
