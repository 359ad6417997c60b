import { operationKind, outageLock } from '../operation.ts';
import { closeStreams, type GiveUpInput, giveUpReplicas } from '../steps/give-up.ts';

/**
 * After `node.dead_after`: the planner makes elsewhere what the node had, and the node begins with nothing
 * when it returns.
 */
export const giveUpNode = operationKind<GiveUpInput>({
  kind: 'give-up-node',
  subject: (input) => `replicas on node ${input.node}`,
  locks: (input) => [outageLock(input.node)],
  movesOn: () => [],
  steps: [giveUpReplicas, closeStreams],
});
