import type { Draft } from './draft.ts';
import { Scales } from './scales.ts';
import { canTake } from './targets.ts';

/**
 * Moves replicas until every partition is spread over localities as well as the nodes allow: a node in a zone
 * that had none gets its share of every partition that had to double up elsewhere.
 */
export function spread(draft: Draft): void {
  if (!draft.nodes.localities.matter) return;
  const takers = draft.nodes.takers();
  const scales = new Scales(draft, takers);
  const least = new Map<number, number>();
  for (let p = 0; p < draft.partitions.records.length; p++) {
    if (!draft.isFree(p)) continue;
    const count = draft.replicas.holdersOf(p).length;
    const reachable = least.get(count) ?? draft.nodes.localities.leastCrowding(count, takers);
    least.set(count, reachable);
    while (
      draft.nodes.localities.crowdingOf(draft.replicas.holdersOf(p)) > reachable &&
      improve(draft, scales, p, takers)
    );
  }
}

/** Makes the one move that spreads `p` best; false where none spreads it better. */
function improve(draft: Draft, scales: Scales, p: number, takers: readonly number[]): boolean {
  let best = { from: -1, to: -1, change: 0, cost: 0 };
  for (const from of [...draft.replicas.holdersOf(p)].sort((a, b) => a - b)) {
    if (draft.nodes.takes[from] === 0) continue;
    const now = draft.nodes.localities.crowding(from, draft.replicas.holdersOf(p), from);
    for (const to of takers) {
      if (!canTake(draft, p, to)) continue;
      const change = draft.nodes.localities.crowding(to, draft.replicas.holdersOf(p), from) - now;
      if (change >= 0 || change > best.change) continue;
      const swing = draft.leaders.of[p] === from ? scales.unit : 0;
      const cost = scales.costOf(p, to) - scales.reliefOf(p, from) + swing;
      if (change < best.change || cost < best.cost) best = { from, to, change, cost };
    }
  }
  if (best.to < 0) return false;
  const reason = `spreads ${draft.partitions.name(p)}: node ${draft.nodes.id(best.from)} shares ${sharedTier(draft, p, best.from)} with another replica`;
  draft.moveReplica(p, best.from, best.to, 'spread', reason);
  return true;
}

/** `zone a`: the deepest locality in which `from` has company. */
function sharedTier(draft: Draft, p: number, from: number): string {
  const mine = draft.nodes.records[from]?.locality ?? [];
  let depth = 0;
  for (const other of draft.replicas.holdersOf(p)) {
    if (other === from) continue;
    const theirs = draft.nodes.records[other]?.locality ?? [];
    let same = 0;
    while (same < mine.length && mine[same]?.key === theirs[same]?.key && mine[same]?.value === theirs[same]?.value)
      same++;
    depth = Math.max(depth, same);
  }
  const tier = mine[depth - 1];
  return tier ? `${tier.key} ${tier.value}` : 'its locality';
}
