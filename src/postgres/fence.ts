import { chown, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { tideError } from '../core/errors.ts';
import { TIDE_DATABASE, TIDE_MANAGER, TIDE_USER } from './config.ts';
import type { RunAs } from './privileges.ts';

/**
 * The fence of a server: while it is up, only the manager comes in over TCP, and whoever may enter the store's own directory by the socket.
 * Clients and replication are refused. It is a file that `pg_hba.conf` includes before everything else, so that it holds from the first
 * moment of a start and leaves the rest of `pg_hba.conf` as its owner wants it.
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

/** How long sessions that are being ended may take to be gone. */
const END_SESSIONS_MS = 2_000;

/** Takes effect at the next start or reload. Idempotent. */
export async function raiseFence(dataDir: string, runAs: RunAs | null): Promise<void> {
  const fence = join(dataDir, FENCE_FILE);
  await writeFile(fence, FENCE);
  const hba = join(dataDir, 'pg_hba.conf');
  const rules = await readFile(hba, 'utf8');
  // A store from before there were fences.
  if (!rules.includes(INCLUDE_FENCE)) await writeFile(hba, `${INCLUDE_FENCE}\n${rules}`);
  if (runAs !== null) for (const file of [fence, hba]) await chown(file, runAs.uid, runAs.gid);
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

/** How long the postmaster may take to read its files anew, and how often that is looked at. */
const RELOAD_MS = 3_000;
const RELOAD_POLL_MS = 20;
/** A session that came in before is shown by then. */
const SHOWN_MS = 100;

/**
 * Has a running server take up the fence that was raised: when this returns, nobody but the manager is in it, or gets in. On a busy machine the
 * postmaster takes its time to read its files, and lets everybody in until then. Throws where it does not answer.
 */
export async function enforceFence(pid: number, port: number): Promise<void> {
  const untilMs = performance.now() + RELOAD_MS;
  const before = await loadTime(port);
  process.kill(pid, 'SIGHUP');
  while ((await loadTime(port)) === before) {
    if (performance.now() > untilMs)
      throw tideError('INTERNAL', { why: `server ${pid} does not read its pg_hba.conf` });
    await sleep(RELOAD_POLL_MS);
  }
  await endSessions(port);
  await sleep(SHOWN_MS);
  await endSessions(port);
}

/** When the server, as it forks now, has read its files. */
async function loadTime(port: number): Promise<string> {
  let time = '';
  await asUser({ host: '127.0.0.1', port, user: TIDE_MANAGER }, async (client) => {
    const { rows } = await client.query<{ time: string }>('select pg_conf_load_time()::text as time');
    time = rows[0]?.time ?? '';
  });
  return time;
}

/** Ends everybody's session but the manager's. */
async function endSessions(port: number): Promise<void> {
  await asUser({ host: '127.0.0.1', port, user: TIDE_MANAGER }, async (client) => {
    await client.query(
      `select pg_terminate_backend(pid, $1) from pg_stat_activity
        where backend_type in ('client backend', 'walsender') and usename is distinct from $2`,
      [END_SESSIONS_MS, TIDE_MANAGER],
    );
  });
}

/** Returns when clients get in, or when the time is up: the owner's own rules may not let this one in. */
export async function untilLetIn(port: number, timeoutMs: number): Promise<void> {
  const untilMs = performance.now() + timeoutMs;
  const tried = () =>
    asUser({ host: '127.0.0.1', port, user: TIDE_USER }, async () => {}).then(
      () => true,
      () => false,
    );
  while (!(await tried()) && performance.now() < untilMs) await sleep(10);
}

/** Makes the manager's role in a server that is older than it, through its own socket; false where that does not let us in. */
export async function addManagerRole(socketDir: string, port: number): Promise<boolean> {
  try {
    await asUser({ host: socketDir, port, user: TIDE_USER }, async (client) => {
      const { rowCount } = await client.query('select from pg_roles where rolname = $1', [TIDE_MANAGER]);
      if (rowCount === 0) await client.query(MANAGER_ROLE);
    });
    return true;
  } catch {
    return false;
  }
}

export const MANAGER_ROLE = `CREATE ROLE ${TIDE_MANAGER} SUPERUSER LOGIN`;

async function asUser(
  address: { host: string; port: number; user: string },
  work: (client: Client) => Promise<void>,
): Promise<void> {
  const client = new Client({
    ...address,
    database: TIDE_DATABASE,
    ssl: false,
    application_name: 'pgtide fence',
    connectionTimeoutMillis: 3_000,
    query_timeout: 5_000,
  });
  client.on('error', () => {});
  try {
    await client.connect();
    await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}
