import { randomUUID } from 'node:crypto';
import { link, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { tideError } from '../core/errors.ts';
import { exec } from '../postgres/exec.ts';
import { isAlive } from '../postgres/postmaster.ts';

/**
 * The process that holds a store. Its id alone is not one process: ids are given again, at once after a
 * restart of a container.
 */
interface Holder {
  /** The process id, as version 0.1.0 writes it too. */
  pid: number;
  /** When the process began, in whatever form the system tells it; only compared. */
  begun: string;
}

export interface StoreLock {
  release(): Promise<void>;
}

const ATTEMPTS_MAX = 100;
const TURN_MS = 20;

/**
 * Makes this process the only one on the store with the lock file `file`. The file of a process that was
 * killed does not count. Holds among processes that see each other's ids: not across machines or separate
 * containers on one shared directory. Throws STORE_IN_USE with the process id of the holder; errors of the
 * file system as they are.
 */
export async function lockStore(file: string): Promise<StoreLock> {
  const own = JSON.stringify({ pid: process.pid, begun: await begunAt(process.pid) } satisfies Holder);
  const draft = `${file}.${randomUUID()}`;
  await writeFile(draft, own);
  try {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      // A link is made whole or not at all, and by one process only: no reader ever sees half a lock.
      if (await linked(draft, file)) return { release: () => release(file, own) };
      await removeStale(file, draft);
    }
  } finally {
    await rm(draft, { force: true });
  }
  throw tideError('STORE_IN_USE', { path: dirname(file), pid: (await readHolder(file))?.pid ?? 0 });
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/**
 * Removes the lock of a process that is gone. One starter at a time, behind a second lock: of two that judge
 * the same file stale, the slower one would take away what the faster one has put in its place. Another
 * starter at work is waited for by trying again.
 */
async function removeStale(file: string, draft: string): Promise<void> {
  const turn = `${file}.turn`;
  if (!(await linked(draft, turn))) {
    const other = await readHolder(turn);
    if (other !== null && !(await isHeld(other))) await rm(turn, { force: true });
    await sleep(TURN_MS);
    return;
  }
  try {
    const holder = await readHolder(file);
    if (holder !== null && (await isHeld(holder)))
      throw tideError('STORE_IN_USE', { path: dirname(file), pid: holder.pid });
    await rm(file, { force: true });
  } finally {
    await rm(turn, { force: true });
  }
}

async function release(file: string, own: string): Promise<void> {
  if ((await readFile(file, 'utf8').catch(() => null)) === own) await rm(file, { force: true });
}

async function isHeld(holder: Holder): Promise<boolean> {
  return isAlive(holder.pid) && (await begunAt(holder.pid)) === holder.begun;
}

async function readHolder(file: string): Promise<Holder | null> {
  return parseHolder(await readFile(file, 'utf8').catch(() => ''));
}

function parseHolder(text: string): Holder | null {
  try {
    const value = JSON.parse(text) as Partial<Holder>;
    return typeof value.pid === 'number' && typeof value.begun === 'string'
      ? { pid: value.pid, begun: value.begun }
      : null;
  } catch {
    return null;
  }
}

/**
 * Start of a process: on Linux the boot's id and the clock ticks since then (field 22 of proc(5) stat),
 * elsewhere what ps says.
 */
async function begunAt(processId: number): Promise<string> {
  const [bootId, stat] = await Promise.all([
    readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => null),
    readFile(`/proc/${processId}/stat`, 'utf8').catch(() => null),
  ]);
  if (bootId === null || stat === null)
    return (await exec('ps', ['-o', 'lstart=', '-p', String(processId)])).stdout.trim();
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return `${bootId.trim()}/${fields[19]}`;
}
