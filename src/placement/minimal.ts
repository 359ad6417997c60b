import { partitionKey } from '../catalog/view.ts';
import type { Draft, StagedMove } from './draft.ts';
import type { Balance } from './moves.ts';

/**
 * Fewest bytes that any plan has to copy to get where this one gets. Three facts that no plan escapes:
 *
 * - A stale replica is copied again in full. It changes no node's total, so it comes on top of the rest.
 * - A missing replica is copied once, a replica on a decommissioning node once, and a partition that ends
 *   better spread has at least one replica elsewhere. Together: `must`.
 * - A node's total rises only by what is copied to it. A node that starts with `before` bytes and that this
 *   plan brings to `after` needs at least `after - before`; where the plan goes beyond the mean it has itself
 *   to blame, so the mean is the most that counts. The sum over all nodes: `deficit`, the price of any plan
 *   that leaves no node further below the mean than this one.
 *
 * One copy can serve both of the last two, so the bound is the greater of them, not their sum.
 * Going back to a given configuration (`restore`) has no choice: each of its copies is needed.
 */
export function bytesMinimal(draft: Draft, moves: readonly StagedMove[], before: Balance, after: Balance): number {
  let stale = 0;
  let must = 0;
  const mustSpread = new Map<string, number>();
  for (const { stage, move } of moves) {
    const key = partitionKey(move.tid, move.pid);
    if (move.kind === 'resync-replica') stale += move.bytes;
    else if (stage === 'repair' || stage === 'drain' || stage === 'restore') {
      must += move.bytes;
      if (move.bytes > 0) mustSpread.set(key, 0);
    } else if (stage === 'spread' && !mustSpread.has(key)) mustSpread.set(key, move.bytes);
  }
  for (const bytes of mustSpread.values()) must += bytes;
  return stale + Math.max(must, deficit(draft, before, after));
}

function deficit(draft: Draft, before: Balance, after: Balance): number {
  const takers = draft.nodes.takers();
  const mean = takers.reduce((sum, n) => sum + (after.nodes[n]?.bytes ?? 0), 0) / Math.max(1, takers.length);
  return takers.reduce((sum, n) => {
    const reached = Math.min(after.nodes[n]?.bytes ?? 0, mean);
    return sum + Math.max(0, reached - (before.nodes[n]?.bytes ?? 0));
  }, 0);
}
