import type { ClusterView, LoadView } from '../catalog/model.ts';
import { partitionKey } from '../catalog/view.ts';
import { type Admission, admit } from './admission.ts';
import { balance } from './balance.ts';
import { cover, giveBack } from './cover.ts';
import { Draft } from './draft.ts';
import { balanceLeaders } from './leaders.ts';
import { bytesMinimal } from './minimal.ts';
import type { Blocked, Goal, Plan, RunningMove } from './moves.ts';
import { loadDuring, viewAfter } from './outcome.ts';
import { drain, repair } from './repair.ts';
import { restore } from './restore.ts';
import { shorten } from './shorten.ts';
import { spread } from './spread.ts';
import { summarize } from './summary.ts';

export type { Balance, Blocked, Goal, Move, NodeBalance, Plan, RunningMove } from './moves.ts';

/**
 * All moves that lead from the view to the goal, in the order in which they may start, with their price.
 * Pure: the same view and load give the same plan, and a view in which the plan has been carried out gives an
 * empty one.
 */
export function plan(view: ClusterView, load: LoadView, goal: Goal): Plan {
  const draft = new Draft(view, load);
  const before = summarize(draft);
  const blocked = pursue(draft, goal);
  const after = summarize(draft);
  const staged = shorten(draft, load);
  const moves = staged.map((s) => s.move);
  return {
    moves,
    bytesMoved: moves.reduce((sum, move) => sum + move.bytes, 0),
    bytesMinimal: bytesMinimal(draft, staged, before, after),
    before,
    after,
    blocked,
  };
}

/**
 * The moves that may start now, beside those that run. Partitions of running moves are left alone and their
 * outcome is assumed, so that a plan goes on where it was instead of correcting itself half-way. Limits:
 * `move.concurrency` in the cluster, `move.concurrency_per_node` from or to one node, and disk room that
 * counts bytes in flight.
 */
export function planNext(
  view: ClusterView,
  load: LoadView,
  goal: Goal,
  running: readonly RunningMove[],
): Admission & { blocked: readonly Blocked[] } {
  const moves = running.map((r) => r.move);
  const busy = new Set(moves.map((move) => partitionKey(move.tid, move.pid)));
  const during = loadDuring(load, moves);
  const draft = new Draft(viewAfter(view, moves), during, busy);
  const blocked = pursue(draft, goal);
  return { ...admit(view, during, shorten(draft, during), moves), blocked };
}

/**
 * Repairs, drains, spreads and balances until nothing is left to do: a move can make the room that an earlier
 * stage lacked. It ends, since each stage only lowers its own measure and none raises the measure of a stage
 * before it.
 */
function pursue(draft: Draft, goal: Goal): Blocked[] {
  if (goal.kind === 'restore') return restore(draft, goal.placement);
  if (goal.kind === 'cover') return cover(draft, goal.node);
  if (goal.kind === 'give-back') return giveBack(draft, goal.node);
  for (;;) {
    const planned = draft.moves.length;
    const blocked = [...repair(draft), ...drain(draft)];
    if (goal.kind === 'balance') {
      spread(draft);
      balance(draft);
      balanceLeaders(draft);
    }
    if (draft.moves.length === planned) return blocked;
  }
}
