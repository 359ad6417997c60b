import type { NodeId } from '../../catalog/model.ts';
import { isOut, partitionKey, replicaOn } from '../../catalog/view.ts';
import { tideError } from '../../core/errors.ts';
import type { LeaderData, QuorumData } from '../data.ts';
import { DONE, nothingToUndo, type Step, type StepContext } from '../operation.ts';
import type { PartitionRef } from '../ports.ts';
import { awaitArrivals, disconnectIdlePairs, endStream, partitionNow, refOf, sendersTo } from './partition.ts';
import { protectPartition } from './protect.ts';

/**
 * docs/spec/moves.md: out of the quorum, then out of the streams both ways, then the rows, then the catalog
 * forgets it.
 */
export interface RemoveInput extends PartitionRef {
  from: NodeId;
}

/** In a move of the leader also the node that led before. */
export type RemoveData = QuorumData & Pick<LeaderData, 'source'>;

const gone = (c: StepContext<RemoveInput, RemoveData>) => replicaOn(partitionNow(c), c.input.from) === undefined;

/**
 * A move of the leader whose target died: a failover has made the source the leader again, and its replica
 * stays.
 */
const keeps = (c: StepContext<RemoveInput, RemoveData>) =>
  c.data.source !== undefined && partitionNow(c).leader === c.input.from;

/** The followers that stay have to do. */
const protectRest: Step<RemoveInput, RemoveData> = {
  name: 'protect-rest',
  done: async (c) => replicaOn(partitionNow(c), c.input.from)?.state !== 'ready',
  run: async (c) => {
    const { leader } = partitionNow(c);
    // What leads cannot be removed; the next step says so.
    if (leader === c.input.from) return DONE;
    return (await protectPartition(c, leader, { without: [c.input.from] })) ?? DONE;
  },
  undo: nothingToUndo('a quorum that asks for more than it has to is set right when the operation has ended'),
};

const retireReplica: Step<RemoveInput, RemoveData> = {
  name: 'retire-replica',
  noReturn: true,
  done: async (c) => gone(c) || keeps(c) || replicaOn(partitionNow(c), c.input.from)?.state === 'leaving',
  run: async (c) => {
    const partition = partitionNow(c);
    if (partition.leader === c.input.from) {
      throw tideError('LEADER_NOT_REMOVABLE', {
        partition: partitionKey(partition.tid, partition.pid),
        node: c.input.from,
        fate: 'removed',
      });
    }
    await c.commit({ kind: 'replica-changed', ...refOf(c), node: c.input.from, state: 'leaving' });
    return DONE;
  },
  undo: nothingToUndo('the replica misses rows from here on; a new one would be copied'),
};

const stopStreams: Step<RemoveInput, RemoveData> = {
  name: 'stop-streams',
  done: async (c) => gone(c) || keeps(c),
  run: async (c) => {
    const senders = sendersTo(c, c.input.from);
    for (const other of partitionNow(c).replicas.map((r) => r.node)) {
      if (other === c.input.from) continue;
      if (senders.includes(other)) await endStream(c, other, c.input.from);
      await endStream(c, c.input.from, other);
    }
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

const dropRows: Step<RemoveInput, RemoveData> = {
  name: 'drop-rows',
  // On a node that is out the rows are removed when it returns.
  done: async (c) =>
    keeps(c) || isOut(c.view, c.input.from) || !(await c.plane.replicas.exists(c.input.from, refOf(c))),
  run: async (c) => {
    const late = await awaitArrivals(c, c.input.from, sendersTo(c, c.input.from));
    if (late) return late;
    await c.plane.replicas.drop(c.input.from, refOf(c));
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

const forgetReplica: Step<RemoveInput, RemoveData> = {
  name: 'forget-replica',
  done: async (c) => keeps(c),
  run: async (c) => {
    if (!gone(c)) {
      await c.commit({ kind: 'replica-removed', ...refOf(c), node: c.input.from });
      await c.event(
        'replica-removed',
        `${partitionKey(c.input.tid, c.input.pid)} left node ${c.input.from}`,
        c.input.from,
      );
    }
    await disconnectIdlePairs(c, c.input.from);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

export const removeReplicaSteps: readonly Step<RemoveInput, RemoveData>[] = [
  protectRest,
  retireReplica,
  stopStreams,
  dropRows,
  forgetReplica,
];
