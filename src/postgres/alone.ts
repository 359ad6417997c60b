import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../catalog/model.ts';
import { endBlockers, ownProcessId } from './sql/blockers.ts';
import type { NodeConnections, Sql } from './sql/client.ts';

/** Who only passes through is gone by then. */
const END_OTHERS_MS = 20;

/**
 * Does `work` in one session. Where `others` are ended, they are while it waits, in front of those who come
 * next: ended before, they would be back before it.
 */
export async function alone<T>(
  connections: NodeConnections,
  node: NodeId,
  others: 'are-ended' | undefined,
  work: (sql: Sql) => Promise<T>,
): Promise<T> {
  return connections.session(node, async (sql) => {
    if (!others) return work(sql);
    const processId = await ownProcessId(sql);
    const worked = new AbortController();
    const end = async () => {
      while (!worked.signal.aborted) {
        await sleep(END_OTHERS_MS, undefined, { signal: worked.signal }).catch(() => {});
        if (!worked.signal.aborted) await endBlockers(connections.on(node), processId).catch(() => {});
      }
    };
    const [done] = await Promise.all([work(sql).finally(() => worked.abort()), end()]);
    return done;
  });
}
