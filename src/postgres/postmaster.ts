import { readFileSync } from 'node:fs';
import { readFile, readlink, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '../core/errors.ts';
import { inSession, ownServer } from './connect.ts';
import { exec } from './exec.ts';

/** What `postmaster.pid` says; layout: PostgreSQL's src/include/utils/pidfile.h. */
export interface PostmasterFile {
  readonly processId: number;
  readonly dataDir: string;
  readonly port: number;
  /** `starting`, `ready`, `stopping` or `standby`; empty while the file is being written. */
  readonly status: string;
}

export function parsePostmasterFile(text: string): PostmasterFile | null {
  const lines = text.split('\n');
  const processId = Number(lines[0]);
  if (!Number.isInteger(processId) || processId <= 0) return null;
  return { processId, dataDir: lines[1] ?? '', port: Number(lines[3] ?? 0), status: (lines[7] ?? '').trim() };
}

/**
 * The living server of `dataDir` by its pid file; null where there is none. A process id that was given to
 * another process since (usual after a container starts again) is told by its working directory, which is the
 * data directory for a postmaster; where the system does not show that, by its name.
 */
export async function findPostmaster(dataDir: string): Promise<PostmasterFile | null> {
  const text = await readFile(postmasterFile(dataDir), 'utf8').catch(() => '');
  const found = parsePostmasterFile(text);
  if (found === null || !isAlive(found.processId)) return null;
  const workDir = await readlink(`/proc/${found.processId}/cwd`).catch(() => null);
  const isPostmaster =
    workDir === null ? await isNamedPostgres(found.processId) : workDir === (await realpath(dataDir));
  return isPostmaster ? found : null;
}

/**
 * Ends the server of `dataDir` that an earlier process has left running, where there is one, and does not
 * wait for it.
 */
export async function endLeftBehind(dataDir: string): Promise<void> {
  const found = await findPostmaster(dataDir);
  if (found !== null) process.kill(found.processId, 'SIGINT');
}

export function postmasterFile(dataDir: string): string {
  return join(dataDir, 'postmaster.pid');
}

async function isNamedPostgres(processId: number): Promise<boolean> {
  return (await exec('ps', ['-o', 'comm=', '-p', String(processId)])).stdout.includes('postgres');
}

/** False also for a zombie, which a container without an init process keeps for ever. */
export function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return processState(processId) !== 'Z';
}

/**
 * The state letter in `/proc/PID/stat` (proc(5)), which follows the name in brackets; null where there is no
 * such file.
 */
function processState(processId: number): string | null {
  try {
    const stat = readFileSync(`/proc/${processId}/stat`, 'utf8');
    return stat[stat.lastIndexOf(')') + 2] ?? null;
  } catch {
    return null;
  }
}

export type Probe =
  | { kind: 'ready'; version: string }
  /** It answers, but as SQLSTATE 57P03: starting, recovering, or shutting down. */
  | { kind: 'not-yet'; why: string }
  /** Somebody else's server listens on the port. */
  | { kind: 'foreign'; dataDir: string }
  | { kind: 'no-answer'; why: string };

const PROBE_TIMEOUT_MS = 3_000;

/** Asks the server on loopback port `port` whether it accepts connections and whose data it serves. */
export async function probe(port: number, dataDir: string): Promise<Probe> {
  const options = { name: 'pgtide start', connectMs: PROBE_TIMEOUT_MS, answerMs: PROBE_TIMEOUT_MS } as const;
  try {
    const { rows } = await inSession(ownServer({ port }), options, (client) =>
      client.query<{ dir: string; version: string }>(
        "SELECT current_setting('data_directory') AS dir, current_setting('server_version') AS version",
      ),
    );
    const [row] = rows;
    const served = await realpath(row?.dir ?? '').catch(() => row?.dir ?? '');
    if (served !== (await realpath(dataDir))) return { kind: 'foreign', dataDir: served };
    return { kind: 'ready', version: (row?.version ?? '').split(' ')[0] ?? '' };
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === '57P03') return { kind: 'not-yet', why: messageOf(error) };
    // Another cluster's server does not know our user or database, or does not let us in; one of another
    // version may not know our settings.
    if (code !== undefined && /^(28|3D|42704)/.test(code)) return { kind: 'foreign', dataDir: 'unknown' };
    return { kind: 'no-answer', why: messageOf(error) };
  }
}
