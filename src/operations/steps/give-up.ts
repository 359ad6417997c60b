import { servedOn } from '../../catalog/holders.ts';
import type { ClusterView, NodeId, Partition } from '../../catalog/model.ts';
import { isOut } from '../../catalog/view.ts';
import { DONE, nothingToUndo, type OperationRecord, type Step, type StepContext } from '../operation.ts';
import { disconnectIdlePairs } from './partition.ts';

/** What a node that is out holds counts no more. */

export interface GiveUpInput {
  node: NodeId;
}

/**
 * Replicas on a node that follow a leader in service: it has all that they have, and nobody needs them to be
 * there. Not one to which a swing has begun: that it came through may be known to a leader alone that does
 * not answer.
 */
export function spareReplicas(
  view: ClusterView,
  node: NodeId,
  running: readonly Pick<OperationRecord, 'input' | 'began'>[],
): Partition[] {
  const isTarget = ({ tid, pid }: Partition) =>
    running.some(
      ({ input, began }) => input.to === node && input.tid === tid && input.pid === pid && began === 'swing',
    );
  return servedOn(view, node).filter((p) => p.leader !== node && !isOut(view, p.leader) && !isTarget(p));
}

/**
 * What a node that is dropped for good follows counts no more, whoever leads it and whether that one is
 * there.
 */
const spareHere = (c: StepContext<GiveUpInput>) =>
  'lost' in c.input
    ? servedOn(c.view, c.input.node).filter((p) => p.leader !== c.input.node)
    : spareReplicas(c.view, c.input.node, c.running());

export const giveUpReplicas: Step<GiveUpInput> = {
  name: 'give-up-replicas',
  noReturn: true,
  done: async (c) => spareHere(c).length === 0,
  run: async (c) => {
    const { node } = c.input;
    const spare = spareHere(c);
    for (const { tid, pid, replicas } of spare) {
      for (const from of replicas.map((r) => r.node).filter((n) => n !== node && c.alive(n)))
        await c.plane.streams.stopSending(from, node, { tid, pid });
    }
    await c.commit(...spare.map(({ tid, pid }) => ({ kind: 'replica-removed', tid, pid, node }) as const));
    await c.event('replicas-given-up', `${spare.length} replicas on node ${node}, which is down, count no more`, node);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

export const closeStreams: Step<GiveUpInput> = {
  name: 'close-streams',
  done: async () => false,
  run: async (c) => {
    await disconnectIdlePairs(c, c.input.node);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};
