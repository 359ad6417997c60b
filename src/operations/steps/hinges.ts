import type { NodeId } from '../../catalog/model.ts';
import { partitionTable } from '../../catalog/names.ts';
import { allPartitions, connectedNodes } from '../../catalog/view.ts';
import { again, type StepContext, type StepResult } from '../operation.ts';
import { waitFor, waitForTransaction } from '../waiting.ts';

/**
 * Points the hinges of the other live nodes past nodes that are about to be away, wherever they do not lead: null when none leads there, else
 * what has to be waited for. A transaction that has gone through such a hinge holds its lock: when this is through, none depends on them.
 */
export async function pointPast(c: StepContext<unknown>, leaving: readonly NodeId[]): Promise<StepResult | null> {
  const staying = connectedNodes(c.view).filter((n) => !leaving.includes(n.id) && n.state !== 'joining');
  for (const { id } of staying.filter((n) => c.alive(n.id))) {
    const hinges = await c.plane.readHinges(id);
    for (const { table, partition } of allPartitions(c.view)) {
      const target = hinges.get(partitionTable(partition.tid, partition.pid));
      const { leader } = partition;
      if (target?.kind !== 'node' || !leaving.includes(target.node) || leaving.includes(leader)) continue;
      const budgetMs = c.view.settings['move.max_pause'];
      const [oldest] = await c.plane.lockHolders(id, partition);
      // Tried in vain, it would leave a foreign table behind.
      if (oldest && oldest.ageMs > 2 * budgetMs)
        return again(300, waitForTransaction(id, oldest, `a hinge that leads to node ${target.node} is in use`));
      const to = { kind: 'node', node: leader } as const;
      const attempt = await c.plane.pointHinge(id, table, partition.pid, to, budgetMs);
      if (attempt.outcome === 'done') continue;
      const text = `a hinge on node ${id} still leads to node ${target.node}, which is leaving, and is in use`;
      return again(300, waitFor('lock', text, id));
    }
  }
  return null;
}
