import { createInterface } from 'node:readline';
import { isAlive, removeCluster } from './processes.ts';

/**
 * Stands beside a local cluster and clears it away when its owner dies without doing so itself: even a killed
 * demo or test leaves nothing behind. A process of its own: `reaper.js DIR`. Lines on stdin: `+PID` a node
 * started, `-PID` it ended, `done` nothing is left to do. The end of stdin is the owner's death.
 */
async function reap(dir: string): Promise<void> {
  // The owner's Ctrl-C is not for this process.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  const processIds = new Set<number>();
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'done') return;
    const processId = Number(line.slice(1));
    if (line.startsWith('+')) processIds.add(processId);
    else processIds.delete(processId);
  }
  await removeCluster(dir, [...processIds].filter(isAlive));
}

await reap(process.argv[2] as string);
process.exit(0);
