import type { Draft } from './draft.ts';
import type { Blocked } from './moves.ts';
import type { Scales } from './scales.ts';

/**
 * Whether node `n` may get a replica of `p`: active, alive, not draining, not a holder, room above the
 * margin.
 */
export function canTake(draft: Draft, p: number, n: number): boolean {
  return draft.nodes.takes[n] === 1 && !draft.replicas.holds(n, p) && hasRoom(draft, p, n);
}

/**
 * A partition without bytes fits everywhere: a nearly full disk must not keep an empty table from being
 * repaired.
 */
function hasRoom(draft: Draft, p: number, n: number): boolean {
  const size = draft.partitions.size[p] ?? 0;
  return size === 0 || (draft.replicas.room[n] ?? 0) >= size;
}

/** The node where a replica of `p` spreads best, then costs the balance least; -1 where none can take it. */
export function bestTarget(draft: Draft, scales: Scales, p: number, takers: readonly number[], leaving = -1): number {
  let best = -1;
  let bestCrowding = Number.POSITIVE_INFINITY;
  let bestCost = Number.POSITIVE_INFINITY;
  for (const n of takers) {
    const crowding = draft.nodes.localities.crowding(n, draft.replicas.holdersOf(p), leaving);
    const atLeast = scales.costOf(p, n) - scales.acquaintanceMax;
    if (crowding > bestCrowding || (crowding === bestCrowding && atLeast >= bestCost)) continue;
    if (!canTake(draft, p, n)) continue;
    const cost = scales.costOf(p, n) - scales.acquaintance(p, n, leaving);
    if (crowding < bestCrowding || cost < bestCost) [best, bestCrowding, bestCost] = [n, crowding, cost];
  }
  return best;
}

/** Why no node can take a replica of `p`: every node counted under the first thing that speaks against it. */
export function noTarget(draft: Draft, p: number, node: number): Blocked {
  if (!draft.hasLiveLeader(p)) {
    return draft.blocked(p, node, `${draft.partitions.name(p)} has no live leader to copy from`);
  }
  const counts = { full: 0, decommissioning: 0, draining: 0, joining: 0, holds: 0 };
  const full: number[] = [];
  let live = 0;
  draft.nodes.records.forEach((record, n) => {
    if (draft.nodes.alive[n] === 0) return;
    live++;
    if (record.state === 'decommissioning') counts.decommissioning++;
    else if (record.state === 'joining') counts.joining++;
    else if (draft.replicas.holds(n, p)) counts.holds++;
    else if (record.draining) counts.draining++;
    else {
      counts.full++;
      full.push(record.id);
    }
  });
  const parts = [
    counts.full > 0 && `${counts.full} full`,
    counts.decommissioning > 0 && `${counts.decommissioning} decommissioning`,
    counts.draining > 0 && `${counts.draining} draining`,
    counts.joining > 0 && `${counts.joining} still joining`,
    counts.holds > 0 && `${counts.holds} already ${counts.holds === 1 ? 'holds' : 'hold'} it`,
  ].filter(Boolean);
  const why = `0 of ${live} live nodes can take a replica of ${draft.partitions.name(p)} (${parts.join(', ')})`;
  return draft.blocked(p, node, why, full);
}
