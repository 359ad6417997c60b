import { randomUUID } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { tideError } from '../core/errors.ts';
import { exec } from '../postgres/exec.ts';
import { isAlive } from '../postgres/postmaster.ts';

/** The process that holds a store. A pid alone is not one process: pids are given again, at once after a restart of a container. */
interface Holder {
  pid: number;
  /** When the process began, in whatever form the system tells it; only compared. */
  begun: string;
}

export interface StoreLock {
  release(): Promise<void>;
}

const ATTEMPTS_MAX = 20;

/**
 * Makes this process the only one on the store with the lock file `file`. The file of a process that was killed does not count.
 * Holds among processes that see each other's pids: not across machines or separate containers on one shared directory.
 * Throws STORE_IN_USE with the pid of the holder; errors of the file system as they are.
 */
export async function lockStore(file: string): Promise<StoreLock> {
  const own = JSON.stringify({ pid: process.pid, begun: await begunAt(process.pid) } satisfies Holder);
  const draft = `${file}.${randomUUID()}`;
  await writeFile(draft, own);
  try {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      // A link is made whole or not at all, and by one process only: no reader ever sees half a lock.
      if (await linked(draft, file)) return { release: () => release(file, own) };
      await removeStale(file);
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

async function removeStale(file: string): Promise<void> {
  const judged = await readFile(file, 'utf8').catch(() => null);
  if (judged === null) return;
  const holder = parseHolder(judged);
  if (holder !== null && (await isHeld(holder)))
    throw tideError('STORE_IN_USE', { path: dirname(file), pid: holder.pid });
  const aside = join(dirname(file), `stale.${randomUUID()}`);
  await rename(file, aside).catch(() => {});
  // Another starter may have replaced the stale file between our look and our rename: then it was not ours to take.
  const taken = await readFile(aside, 'utf8').catch(() => judged);
  if (taken !== judged) await linked(aside, file);
  await rm(aside, { force: true });
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

/** Start of a process: on Linux the boot's id and the clock ticks since then (field 22 of proc(5) stat), elsewhere what ps says. */
async function begunAt(pid: number): Promise<string> {
  const [bootId, stat] = await Promise.all([
    readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => null),
    readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null),
  ]);
  if (bootId === null || stat === null) return (await exec('ps', ['-o', 'lstart=', '-p', String(pid)])).stdout.trim();
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return `${bootId.trim()}/${fields[19]}`;
}
