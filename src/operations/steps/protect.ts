import type { NodeId } from '../../catalog/model.ts';
import { followersOf, type QuorumDemand } from '../../catalog/quorum.ts';
import { isOut } from '../../catalog/view.ts';
import type { QuorumData } from '../data.ts';
import type { StepContext, StepResult } from '../operation.ts';
import type { PartitionRef } from '../ports.ts';
import { awaitArrivals, partitionNow, refOf } from './partition.ts';

/**
 * Changes of who leads and who follows must not leave a commit acknowledged that no follower has. So what a
 * change is going to need is demanded of the quorum before it, in the journal, and stays demanded until the
 * operation ends, whoever settles the quorum meanwhile.
 */
export async function demandQuorum(c: StepContext<unknown, QuorumData>, ...demands: QuorumDemand[]): Promise<void> {
  const added = demands.filter((d) => !isDemanded(c, d));
  if (added.length > 0) await c.remember({ demands: [...demandsIn(c), ...added] });
  for (const node of new Set(demands.map((d) => d.node))) if (!isOut(c.view, node)) await c.settleQuorum(node);
}

/** Takes back what was demanded on a node; whoever takes its streams away settles its quorum. */
export async function withdrawDemands(c: StepContext<unknown, QuorumData>, node: NodeId): Promise<void> {
  const rest = demandsIn(c).filter((d) => d.node !== node);
  if (rest.length < demandsIn(c).length) await c.remember({ demands: rest });
}

function demandsIn(c: StepContext<unknown, QuorumData>): readonly QuorumDemand[] {
  return c.data.demands ?? [];
}

function isDemanded(c: StepContext<unknown, QuorumData>, demand: QuorumDemand): boolean {
  return demandsIn(c).some((d) => JSON.stringify(d) === JSON.stringify(demand));
}

/**
 * Null once every commit of the partition on `node`, its leader or next leader, waits for one of its
 * followers as they are after `change`; else what to wait for. A follower that does not listen yet would hold
 * up all writers of the node: it has to have heard something first.
 */
export async function protectPartition(
  c: StepContext<PartitionRef, QuorumData>,
  node: NodeId,
  change: Pick<QuorumDemand, 'without' | 'with'> = {},
): Promise<StepResult | null> {
  // Nobody is acknowledged anything there, and what was is judged by the quorums that it had.
  if (isOut(c.view, node)) return null;
  const demand = { node, ...refOf(c), ...change };
  const asked = isDemanded(c, demand) ? [] : followersOf(partitionNow(c), node);
  for (const follower of asked.filter((n) => !change.without?.includes(n) && c.alive(n))) {
    const late = await awaitArrivals(c, follower, [node]);
    if (late) return late;
  }
  await demandQuorum(c, demand);
  return null;
}
