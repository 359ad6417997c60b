import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Whether the process runs; one that has ended and waits to be collected does not. */
export function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  const stat = readOrNull(`/proc/${processId}/stat`);
  return stat === null || !stat.slice(stat.lastIndexOf(')')).startsWith(') Z');
}

/** True as soon as the process has ended, false when it still runs after `timeoutMs`. */
async function waitUntilGone(processId: number, timeoutMs: number): Promise<boolean> {
  const until = performance.now() + timeoutMs;
  while (isAlive(processId)) {
    if (performance.now() > until) return false;
    await sleep(25);
  }
  return true;
}

/** Sends the signals one after the other, each with its time to take effect, until the process has ended. */
export async function endProcess(
  processId: number,
  steps: readonly (readonly [NodeJS.Signals, number])[],
): Promise<void> {
  for (const [signal, waitMs] of steps) {
    if (!isAlive(processId)) return;
    trySignal(processId, signal);
    if (await waitUntilGone(processId, waitMs)) return;
  }
}

/**
 * Sends a signal to a process, or to a process group where `processId` is negative; false where there is
 * none.
 */
export function trySignal(processId: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(processId, signal);
    return true;
  } catch {
    return false;
  }
}

/**
 * The postmaster that serves this data directory, or null. The pid file alone proves nothing, since process
 * ids are used again: a postmaster's working directory is its data directory.
 */
export function postmasterProcessId(dataDir: string): number | null {
  const lines = readOrNull(join(dataDir, 'postmaster.pid'))?.split('\n') ?? [];
  const processId = Number(lines[0]);
  if (!Number.isInteger(processId) || processId <= 1 || !isAlive(processId)) return null;
  try {
    return readlinkSync(`/proc/${processId}/cwd`) === realpathSync(dataDir) ? processId : null;
  } catch {
    return readOrNull('/proc/self/stat') === null && lines[1] === dataDir ? processId : null;
  }
}

/**
 * Ends the node processes with all they have started, their PostgreSQL servers, and removes the directory.
 */
export async function removeCluster(dir: string, nodeProcessIds: readonly number[]): Promise<void> {
  await Promise.all(nodeProcessIds.map((processId) => endProcess(processId, [['SIGTERM', 10_000]])));
  // Nodes are leaders of their process groups: an initdb that was under way goes with them.
  for (const processId of nodeProcessIds) trySignal(-processId, 'SIGKILL');
  const postmasters = readdirSync(dir).map((store) => postmasterProcessId(join(dir, store, 'pgdata')));
  await Promise.all(
    postmasters.map((processId) => (processId === null ? null : endProcess(processId, POSTMASTER_ENDS))),
  );
  await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}

/** PostgreSQL manual, 18.5: fast, immediate; killed, its backends notice within moments. */
const POSTMASTER_ENDS = [
  ['SIGINT', 5_000],
  ['SIGQUIT', 3_000],
  ['SIGKILL', 3_000],
] as const;

/** Linux: the processes that a process has started and that have not been collected. */
export function childrenOf(parent: number): number[] {
  const processIds = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  return processIds.filter((processId) => {
    const stat = readOrNull(`/proc/${processId}/stat`);
    return stat !== null && Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent;
  });
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
