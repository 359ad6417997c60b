import type { Goal } from '../../placement/plan.ts';
import type { PlanData } from '../data.ts';
import { DONE, operationKind, type StepContext } from '../operation.ts';
import { carryOut, stopChildren } from '../steps/carry-out.ts';

interface RebalanceInput {
  goal: 'balance' | 'repair';
  why: string;
}

const rebalanceGoal = (c: StepContext<RebalanceInput>): Goal => ({ kind: c.input.goal });

/** Replicas that are missing or stale are made, or data is spread, as the planner says. */
export const rebalance = operationKind<RebalanceInput, PlanData>({
  kind: 'rebalance',
  subject: (input) => input.why,
  locks: () => ['rebalance'],
  movesOn: () => [],
  steps: [
    {
      name: 'move-replicas',
      done: async () => false,
      run: async (c) => {
        const result = await carryOut(c, rebalanceGoal(c));
        // Ends with what can be done, and does not stand in the way of the next: the manager repairs again
        // when more can.
        return result.kind === 'again' && result.waitsFor?.kind === 'no-target' ? DONE : result;
      },
      undo: async (c) => stopChildren(c),
    },
  ],
});
