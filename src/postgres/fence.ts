import { readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, DatabaseError } from 'pg';
import { TideError, tideError } from '../core/errors.ts';
import { TIDE_MANAGER, TIDE_USER } from './config.ts';
import { type Address, inSession, ownServer } from './connect.ts';
import { isAlive } from './postmaster.ts';

/**
 * The fence of a server: while it is up, only the manager comes in over TCP, and whoever may enter the
 * store's own directory by the socket. Clients and replication are refused. It is a file that `pg_hba.conf`
 * includes before everything else, so that it holds from the first moment of a start and leaves the rest of
 * `pg_hba.conf` as its owner wants it.
 */
const FENCE_FILE = 'pgtide_fence.conf';
export const INCLUDE_FENCE = `include_if_exists ${FENCE_FILE}`;

const FENCE = [
  '# Written by pgtide before every start; removed when the manager has said that this server may serve.',
  'local replication all reject',
  'local all all trust',
  `host all ${TIDE_MANAGER} all trust`,
  'host replication all all reject',
  'host all all all reject',
  '',
].join('\n');

/**
 * How long sessions that are being ended may take to be gone, all together, before the others are looked at.
 */
const END_SESSIONS_MS = 200;
const END_POLL_MS = 10;
/** A session that came in before the fence is shown by then. */
const SHOWN_MS = 100;

/**
 * Takes effect at the next start or reload. Idempotent. There is no half of it: a fence without its rules
 * would keep nobody out.
 */
export async function raiseFence(dataDir: string): Promise<void> {
  const fence = join(dataDir, FENCE_FILE);
  await writeFile(`${fence}.new`, FENCE);
  await rename(`${fence}.new`, fence);
  const hba = join(dataDir, 'pg_hba.conf');
  const rules = await readFile(hba, 'utf8');
  // A store from before there were fences.
  if (!rules.includes(INCLUDE_FENCE)) await writeFile(hba, `${INCLUDE_FENCE}\n${rules}`);
}

/** Takes effect at the next start or reload. Idempotent. */
export async function lowerFence(dataDir: string): Promise<void> {
  await rm(join(dataDir, FENCE_FILE), { force: true });
}

export async function isFenceUp(dataDir: string): Promise<boolean> {
  return await stat(join(dataDir, FENCE_FILE)).then(
    () => true,
    () => false,
  );
}

/**
 * Has a running server take up the fence that was raised: when this returns, nobody but the manager is in it,
 * or gets in. Sessions end from when it keeps somebody out, and until a look finds nobody. Commits that wait
 * for a follower come last: their rows are seen by others from the moment that their wait ends, and may be
 * nobody else's. A server that ends meanwhile counts as fenced, and starts again behind its fence. Throws
 * FENCE_NOT_UP where that takes longer than `withinMs`.
 */
export async function enforceFence(processId: number, port: number, withinMs: number): Promise<void> {
  const untilMs = performance.now() + withinMs;
  const late = () => performance.now() > untilMs;
  const notUp = (why: string) => tideError('FENCE_NOT_UP', { seconds: withinMs / 1000, why });
  process.kill(processId, 'SIGHUP');
  while (await letsIn(port)) {
    if (!isAlive(processId)) return;
    if (late()) throw notUp('PostgreSQL still lets clients in');
    await sleep(10);
  }
  const untilEmpty = async (client: Client) => {
    for (let empty = 0; empty < 2; ) {
      const others = await endSessions(client, `and wait_event is distinct from 'SyncRep'`);
      const waiting = await endSessions(client, '');
      empty = others === 0 && waiting === 0 ? empty + 1 : 0;
      if (late()) throw notUp(`${waiting} sessions do not end`);
      if (empty === 1) await sleep(SHOWN_MS);
    }
  };
  while (!(await asManager(port, untilEmpty))) {
    if (!isAlive(processId)) return;
    if (late()) throw notUp('the session that ends the others is ended itself');
    await sleep(END_POLL_MS);
  }
}

/**
 * False where the session was ended. The node process and its watchdog fence at the same time, and each ends
 * sessions that are still being let in, of which nobody can know yet that they are the other's.
 */
async function asManager(port: number, work: (client: Client) => Promise<void>): Promise<boolean> {
  try {
    await asRole(TIDE_MANAGER, ownServer({ port }), work);
    return true;
  } catch (error) {
    if (error instanceof TideError) throw error;
    return false;
  }
}

/**
 * How many there were. All are told at once, and then waited for together: PostgreSQL's own wait looks ten
 * times a second, for one session after the other.
 */
async function endSessions(client: Client, which: string): Promise<number> {
  const untilMs = performance.now() + END_SESSIONS_MS;
  for (let most = 0; ; await sleep(END_POLL_MS)) {
    const { rowCount } = await client.query(`${END_OTHERS} ${which}`, [TIDE_MANAGER]);
    most = Math.max(most, rowCount ?? 0);
    if (rowCount === 0 || performance.now() > untilMs) return most;
  }
}

const END_OTHERS = `select pg_terminate_backend(pid) from pg_stat_activity
  where backend_type in ('client backend', 'walsender') and usename is distinct from $1 and pid <> pg_backend_pid()`;

async function letsIn(port: number): Promise<boolean> {
  return asRole(TIDE_USER, ownServer({ port }), async () => {}).then(
    () => true,
    // Anything else, as "too many clients", says nothing about the fence.
    (error) => !(error instanceof DatabaseError && error.code === REJECTED),
  );
}

/** SQLSTATE invalid_authorization_specification: what a rule that rejects answers. */
const REJECTED = '28000';

/** Returns when clients get in, or when the time is up: the owner's own rules may not let this one in. */
export async function untilLetIn(port: number, timeoutMs: number): Promise<void> {
  const untilMs = performance.now() + timeoutMs;
  while (!(await letsIn(port)) && performance.now() < untilMs) await sleep(10);
}

/**
 * Makes the manager's role in a server that is older than it, through its own socket; false where that does
 * not let us in.
 */
export async function addManagerRole(socketDir: string, port: number): Promise<boolean> {
  try {
    await asRole(TIDE_USER, { host: socketDir, port }, async (client) => {
      const { rowCount } = await client.query('select from pg_roles where rolname = $1', [TIDE_MANAGER]);
      if (rowCount === 0) await client.query(MANAGER_ROLE);
    });
    return true;
  } catch {
    return false;
  }
}

export const MANAGER_ROLE = `CREATE ROLE ${TIDE_MANAGER} SUPERUSER LOGIN`;

async function asRole(role: string, address: Address, work: (client: Client) => Promise<void>): Promise<void> {
  await inSession(address, { name: 'pgtide fence', role, connectMs: 3_000, answerMs: 5_000 }, work);
}
