import type { ReplicaState } from '../../catalog/model.ts';
import { partitionTable } from '../../catalog/names.ts';
import { partitionOf, replicaOn, tableName } from '../../catalog/view.ts';
import { type TideError, tideError } from '../../core/errors.ts';
import { type MoveRequest, preflightMove } from '../../placement/preflight.ts';
import type { CopyData, LeaderData } from '../data.ts';
import { DONE, operationKind, partitionLock, type Step, type StepContext } from '../operation.ts';
import type { PartitionRef } from '../ports.ts';
import { type AddInput, addReplicaSteps } from '../steps/add-replica.ts';
import { changeLeaderSteps, type LeaderInput } from '../steps/change-leader.ts';
import { awaitArrivals, disconnectIdlePairs, partitionNow, refOf, sendersTo, stopStream } from '../steps/partition.ts';
import { type RemoveData, type RemoveInput, removeReplicaSteps } from '../steps/remove-replica.ts';

/** The operations on one partition; a planned move of each kind is an operation of the same name. */

type View = StepContext<unknown>['view'];

function named(view: View, ref: PartitionRef): string {
  const table = view.tables.get(ref.tid);
  return `${table ? tableName(table) : `t${ref.tid}`} ${ref.pid}`;
}

/** The planner's own rules, asked again when the operation's turn comes. */
const refuse =
  (kind: MoveRequest['kind']) =>
  (input: PartitionRef, view: View, load: StepContext<unknown>['load']): TideError | undefined => {
    if (!view.tables.has(input.tid)) return tideError('TABLE_UNKNOWN', { table: `t${input.tid}` });
    return preflightMove(view, load, { ...input, kind } as MoveRequest)[0];
  };

/**
 * An older operation may have changed the leader meanwhile: then there is nothing to hand over, and "done"
 * would be a lie.
 */
function refuseLeader(input: LeaderInput, view: View, load: StepContext<unknown>['load']): TideError | undefined {
  const refusal = refuse('change-leader')(input, view, load);
  const leader = partitionOf(view, input.tid, input.pid)?.leader;
  if (refusal || leader === input.from) return refusal;
  const why = `node ${leader} leads it now, not node ${input.from}`;
  return tideError('NOT_A_FOLLOWER', { partition: named(view, input), node: input.to, why });
}

const locks = (input: PartitionRef) => [partitionLock(input.tid, input.pid)];

export const addReplica = operationKind<AddInput, CopyData>({
  kind: 'add-replica',
  refuse: refuse('add-replica'),
  subject: (input, view) => `${named(view, input)}: → n${input.to}`,
  locks,
  movesOn: (input) => [input.to],
  steps: addReplicaSteps,
});

export const removeReplica = operationKind<RemoveInput, RemoveData>({
  kind: 'remove-replica',
  refuse: refuse('remove-replica'),
  subject: (input, view) => `${named(view, input)}: n${input.from} →`,
  locks,
  movesOn: (input) => [input.from],
  steps: removeReplicaSteps,
});

export const changeLeader = operationKind<LeaderInput, LeaderData>({
  kind: 'change-leader',
  refuse: refuseLeader,
  subject: (input, view) => `${named(view, input)}: leader n${input.from} → n${input.to}`,
  locks,
  movesOn: (input) => [input.from, input.to],
  steps: changeLeaderSteps,
});

/**
 * Add on `to`, hand leadership over where `from` leads, remove on `from`: never below the replica count on
 * the way.
 */
export const moveReplica = operationKind<AddInput & LeaderInput & RemoveInput, CopyData & LeaderData & RemoveData>({
  kind: 'move-replica',
  refuse: refuse('move-replica'),
  subject: (input, view) => `${named(view, input)}: n${input.from} → n${input.to}`,
  locks,
  movesOn: (input) => [input.from, input.to],
  steps: [...addReplicaSteps, ...changeLeaderSteps, ...removeReplicaSteps],
});

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
    await c.commit({ kind: 'replica-put', ...refOf(c), node: c.input.to, state: 'joining' });
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

export const resyncReplica = operationKind<AddInput, CopyData>({
  kind: 'resync-replica',
  refuse: refuse('resync-replica'),
  subject: (input, view) => `${named(view, input)}: n${input.to} again`,
  locks,
  movesOn: (input) => [input.to],
  steps: [emptyStaleReplica, ...addReplicaSteps],
});
