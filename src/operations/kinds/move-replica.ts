import type { CopyData, LeaderData } from '../data.ts';
import { operationKind } from '../operation.ts';
import { type AddInput, addReplicaSteps } from '../steps/add-replica.ts';
import { changeLeaderSteps, type LeaderInput } from '../steps/change-leader.ts';
import { moveLocks, partitionNamed, refuseMove } from '../steps/moves.ts';
import { type RemoveData, type RemoveInput, removeReplicaSteps } from '../steps/remove-replica.ts';

/**
 * Add on `to`, hand leadership over where `from` leads, remove on `from`: never below the replica count on
 * the way.
 */
export const moveReplica = operationKind<AddInput & LeaderInput & RemoveInput, CopyData & LeaderData & RemoveData>({
  kind: 'move-replica',
  refuse: refuseMove('move-replica'),
  subject: (input, view) => `${partitionNamed(view, input)}: n${input.from} → n${input.to}`,
  locks: moveLocks,
  movesOn: (input) => [input.from, input.to],
  steps: [...addReplicaSteps, ...changeLeaderSteps, ...removeReplicaSteps],
});
