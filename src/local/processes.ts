import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Whether the process runs; one that has ended and waits to be collected does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  const stat = readOrNull(`/proc/${pid}/stat`);
  return stat === null || !stat.slice(stat.lastIndexOf(')')).startsWith(') Z');
}

/** True as soon as the process has ended, false when it still runs after `timeoutMs`. */
async function waitUntilGone(pid: number, timeoutMs: number): Promise<boolean> {
  const until = performance.now() + timeoutMs;
  while (isAlive(pid)) {
    if (performance.now() > until) return false;
    await sleep(25);
  }
  return true;
}

/** Sends the signals one after the other, each with its time to take effect, until the process has ended. */
export async function endProcess(pid: number, steps: readonly (readonly [NodeJS.Signals, number])[]): Promise<void> {
  for (const [signal, waitMs] of steps) {
    if (!isAlive(pid)) return;
    trySignal(pid, signal);
    if (await waitUntilGone(pid, waitMs)) return;
  }
}

/** Sends a signal to a process, or to a process group where `pid` is negative; false where there is none. */
export function trySignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/**
 * The postmaster that serves this data directory, or null. The pid file alone proves nothing, since pids are
 * used again: a postmaster's working directory is its data directory.
 */
export function postmasterPid(dataDir: string): number | null {
  const lines = readOrNull(join(dataDir, 'postmaster.pid'))?.split('\n') ?? [];
  const pid = Number(lines[0]);
  if (!Number.isInteger(pid) || pid <= 1 || !isAlive(pid)) return null;
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(dataDir) ? pid : null;
  } catch {
    return readOrNull('/proc/self/stat') === null && lines[1] === dataDir ? pid : null;
  }
}

/**
 * Ends the node processes with all they have started, their PostgreSQL servers, and removes the directory.
 */
export async function removeCluster(dir: string, nodePids: readonly number[]): Promise<void> {
  await Promise.all(nodePids.map((pid) => endProcess(pid, [['SIGTERM', 10_000]])));
  // Nodes are leaders of their process groups: an initdb that was under way goes with them.
  for (const pid of nodePids) trySignal(-pid, 'SIGKILL');
  const postmasters = readdirSync(dir).map((store) => postmasterPid(join(dir, store, 'pgdata')));
  await Promise.all(postmasters.map((pid) => (pid === null ? null : endProcess(pid, POSTMASTER_ENDS))));
  await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}

/** PostgreSQL manual, 18.5: fast, immediate; killed, its backends notice within moments. */
const POSTMASTER_ENDS = [
  ['SIGINT', 5_000],
  ['SIGQUIT', 3_000],
  ['SIGKILL', 3_000],
] as const;

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
