import type { ReplicaState } from '../../catalog/model.ts';
import { partitionTable } from '../../catalog/names.ts';
import { replicaOn } from '../../catalog/view.ts';
import type { CopyData } from '../data.ts';
import { DONE, operationKind, type Step, type StepContext } from '../operation.ts';
import { type AddInput, addReplicaSteps } from '../steps/add-replica.ts';
import { moveLocks, partitionNamed, refuseMove } from '../steps/moves.ts';
import { awaitArrivals, disconnectIdlePairs, partitionNow, refOf, sendersTo, stopStream } from '../steps/partition.ts';

const stateOf = (c: StepContext<AddInput>): ReplicaState | undefined => replicaOn(partitionNow(c), c.input.to)?.state;

/** Throws away what a replica that missed rows still has; the steps of add-replica then fill it again. */
const emptyStaleReplica: Step<AddInput> = {
  name: 'empty-stale-replica',
  done: async (c) => stateOf(c) !== 'stale',
  run: async (c) => {
    await c.claim({ kind: 'replica-table', node: c.input.to, name: partitionTable(c.input.tid, c.input.pid) });
    const senders = sendersTo(c, c.input.to);
    for (const other of senders) {
      await stopStream(c, other, c.input.to, refOf(c));
      await stopStream(c, c.input.to, other, refOf(c));
    }
    const late = await awaitArrivals(c, c.input.to, senders);
    if (late) return late;
    await c.plane.replicas.drop(c.input.to, refOf(c));
    await c.commit({ kind: 'replica-changed', ...refOf(c), node: c.input.to, state: 'joining' });
    return DONE;
  },
  undo: async (c) => {
    // Emptied, and the manager died before it had written that down: the step that would take it out of the
    // catalog has not begun.
    if (stateOf(c) === 'joining') await c.commit({ kind: 'replica-removed', ...refOf(c), node: c.input.to });
    await disconnectIdlePairs(c, c.input.to);
    return DONE;
  },
};

/** A follower that has missed rows is copied again. */
export const resyncReplica = operationKind<AddInput, CopyData>({
  kind: 'resync-replica',
  refuse: refuseMove('resync-replica'),
  subject: (input, view) => `${partitionNamed(view, input)}: n${input.to} again`,
  locks: moveLocks,
  movesOn: (input) => [input.to],
  steps: [emptyStaleReplica, ...addReplicaSteps],
});
