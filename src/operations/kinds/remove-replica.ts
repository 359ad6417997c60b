import { operationKind } from '../operation.ts';
import { moveLocks, partitionNamed, refuseMove } from '../steps/moves.ts';
import { type RemoveData, type RemoveInput, removeReplicaSteps } from '../steps/remove-replica.ts';

/** A partition has a follower less. */
export const removeReplica = operationKind<RemoveInput, RemoveData>({
  kind: 'remove-replica',
  refuse: refuseMove('remove-replica'),
  subject: (input, view) => `${partitionNamed(view, input)}: n${input.from} →`,
  locks: moveLocks,
  movesOn: (input) => [input.from],
  steps: removeReplicaSteps,
});
