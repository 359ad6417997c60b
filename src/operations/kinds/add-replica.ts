import type { CopyData } from '../data.ts';
import { operationKind } from '../operation.ts';
import { type AddInput, addReplicaSteps } from '../steps/add-replica.ts';
import { moveLocks, partitionNamed, refuseMove } from '../steps/moves.ts';

/** A partition has a follower on one node more. */
export const addReplica = operationKind<AddInput, CopyData>({
  kind: 'add-replica',
  refuse: refuseMove('add-replica'),
  subject: (input, view) => `${partitionNamed(view, input)}: → n${input.to}`,
  locks: moveLocks,
  movesOn: (input) => [input.to],
  steps: addReplicaSteps,
});
