import type { ClusterView, LoadView } from '../../catalog/model.ts';
import { partitionOf } from '../../catalog/view.ts';
import { type TideError, tideError } from '../../core/errors.ts';
import type { LeaderData } from '../data.ts';
import { operationKind } from '../operation.ts';
import { changeLeaderSteps, type LeaderInput } from '../steps/change-leader.ts';
import { moveLocks, partitionNamed, refuseMove } from '../steps/moves.ts';

/**
 * An older operation may have changed the leader meanwhile: then there is nothing to hand over, and "done"
 * would be a lie.
 */
function refuseLeader(input: LeaderInput, view: ClusterView, load: LoadView): TideError | undefined {
  const refusal = refuseMove('change-leader')(input, view, load);
  const leader = partitionOf(view, input.tid, input.pid)?.leader;
  if (refusal || leader === input.from) return refusal;
  const why = `node ${leader} leads it now, not node ${input.from}`;
  return tideError('NOT_A_FOLLOWER', { partition: partitionNamed(view, input), node: input.to, why });
}

/** A partition is led by its follower on `to` instead of `from`. */
export const changeLeader = operationKind<LeaderInput, LeaderData>({
  kind: 'change-leader',
  refuse: refuseLeader,
  subject: (input, view) => `${partitionNamed(view, input)}: leader n${input.from} → n${input.to}`,
  locks: moveLocks,
  movesOn: (input) => [input.from, input.to],
  steps: changeLeaderSteps,
});
