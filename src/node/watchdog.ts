import { setTimeout as sleep } from 'node:timers/promises';
import { enforceFence, raiseFence } from '../postgres/fence.ts';
import { findPostmaster, isAlive } from '../postgres/postmaster.ts';
import { monotonicMs, readLeaseNote } from './node-lease.ts';

/**
 * Stands beside a node process whose meta store is shared, and fences its PostgreSQL when its lease has run
 * out and the process has not done so itself: because it was killed, or frozen, or has more to do than it
 * can. A process of its own, in no group with the other: `watchdog.js LEASE-FILE DATA-DIR NODE-PID`.
 */
const POLL_MS = 100;
/** The node process comes first. */
const BEHIND_MS = 400;
const FENCE_MS = 2_000;

const [leaseFile = '', dataDir = '', nodeText = ''] = process.argv.slice(2);
const node = Number(nodeText);

async function watch(): Promise<void> {
  let fencedForMs = 0;
  for (;;) {
    const note = await readLeaseNote(leaseFile);
    const server = await findPostmaster(dataDir);
    // Another process has taken the node up, with a watchdog of its own; or nothing is left to watch.
    if (note !== null && note.owner !== node && isAlive(note.owner)) return;
    if (!isAlive(node) && server === null) return;
    if (note !== null && server !== null && note.untilMs !== fencedForMs && monotonicMs() > note.untilMs + BEHIND_MS) {
      await fence(server.processId, server.port);
      fencedForMs = note.untilMs;
      if (!isAlive(node)) return;
    }
    await sleep(POLL_MS);
  }
}

/**
 * A server that does not take the fence up, or has no room for it, is killed: nobody may be let in, and it
 * starts again behind its fence.
 */
async function fence(processId: number, port: number): Promise<void> {
  try {
    await raiseFence(dataDir);
    await enforceFence(processId, port, FENCE_MS);
  } catch {
    if (isAlive(processId)) process.kill(processId, 'SIGKILL');
  }
}

process.umask(0o077);
// Signals to the node's terminal are not for this process.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
await watch();
process.exit(0);
