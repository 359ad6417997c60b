import type { Draft } from './draft.ts';

const TOLERANCE = 0.04;
/**
 * Chains of leader changes are searched for in clusters of up to this many nodes; larger ones have direct
 * changes enough.
 */
const CHAIN_NODES_MAX = 64;

type Direction = 'away' | 'here';

/**
 * Leaders handed on, last first: each step gives `p` to `to`. Nodes between the two ends keep their number.
 */
type Chain = readonly { readonly p: number; readonly to: number }[];

interface Found {
  readonly chain: Chain;
  readonly gain: number;
}

/**
 * Evens out leaders over the nodes, in all and per table. Copies nothing, but each change pauses a
 * partition's writers for milliseconds: so only nodes outside the tolerance start one, and each lowers the
 * sum of the squares of the counts.
 */
export function balanceLeaders(draft: Draft): void {
  const takers = draft.nodes.takers();
  const mean = takers.reduce((sum, n) => sum + (draft.leaders.count[n] ?? 0), 0) / Math.max(1, takers.length);
  const means = draft.partitions.tables.map(
    (_, t) => takers.reduce((sum, n) => sum + draft.leaders.ofTable(t, n), 0) / Math.max(1, takers.length),
  );
  for (let changed = true; changed; ) {
    changed = false;
    for (const direction of ['away', 'here'] as const) {
      for (const n of takers) {
        while (isOff(draft, n, direction, mean, means) && change(draft, n, direction, mean)) changed = true;
      }
    }
  }
}

function isOff(draft: Draft, n: number, direction: Direction, mean: number, means: readonly number[]): boolean {
  const sign = direction === 'away' ? 1 : -1;
  const slack = Math.max(1, TOLERANCE * mean) - 1e-9;
  if (sign * ((draft.leaders.count[n] ?? 0) - mean) >= slack) return true;
  // A table with fewer partitions than that cannot be so far off.
  return means.some((ofTable, t) => {
    return (
      (draft.partitions.tables[t]?.partitionCount ?? 0) >= slack &&
      sign * (draft.leaders.ofTable(t, n) - ofTable) >= slack
    );
  });
}

function change(draft: Draft, n: number, direction: Direction, mean: number): boolean {
  const found = bestDirect(draft, n, direction) ?? bestChain(draft, n, direction);
  if (!found) return false;
  const leads = draft.leaders.count[n] ?? 0;
  const reason = `node ${draft.nodes.id(n)} leads ${leads} partitions, the mean is ${Math.round(mean * 10) / 10}`;
  for (const { p, to } of found.chain) draft.changeLeader(p, to, 'lead', reason);
  return true;
}

/**
 * By how much the imbalance falls when one leader of table `t` goes from one node to another; halves of
 * squares.
 */
function gainOf(draft: Draft, t: number, from: number, to: number): number {
  const all = (draft.leaders.count[from] ?? 0) - (draft.leaders.count[to] ?? 0) - 1;
  return all + draft.leaders.ofTable(t, from) - draft.leaders.ofTable(t, to) - 1;
}

/** Leader changes that begin (`away`) or end (`here`) at `n`. */
function* changesAt(draft: Draft, n: number, direction: Direction): Generator<{ p: number; from: number; to: number }> {
  for (const p of draft.replicas.heldBy(n)) {
    const leader = draft.leaders.of[p] ?? -1;
    if ((direction === 'away') !== (leader === n) || !draft.isFree(p) || draft.nodes.takes[leader] === 0) continue;
    for (const to of direction === 'away' ? draft.replicas.holdersOf(p) : [n]) {
      if (to !== leader && draft.nodes.takes[to] === 1 && draft.replicas.isReady(p, to)) yield { p, from: leader, to };
    }
  }
}

function bestDirect(draft: Draft, n: number, direction: Direction): Found | undefined {
  let best: { p: number; to: number; gain: number } | undefined;
  for (const { p, from, to } of changesAt(draft, n, direction)) {
    const gain = gainOf(draft, draft.partitions.table[p] ?? 0, from, to);
    if (gain <= 0) continue;
    const order = !best || gain - best.gain || best.p - p || best.to - to;
    if (order === true || order > 0) best = { p, to, gain };
  }
  return best && { chain: [best], gain: best.gain };
}

/**
 * Where no single change helps, a chain may: n1 hands a partition to n2, which hands another of that table to
 * n3.
 */
function bestChain(draft: Draft, n: number, direction: Direction): Found | undefined {
  if (draft.nodes.records.length > CHAIN_NODES_MAX) return undefined;
  let best: Found | undefined;
  const tables = new Set([...draft.replicas.heldBy(n)].map((p) => draft.partitions.table[p] ?? 0));
  for (const t of [...tables].sort((a, b) => a - b)) {
    for (const [end, steps] of reach(draft, n, direction, t)) {
      const gain = direction === 'away' ? gainOf(draft, t, n, end) : gainOf(draft, t, end, n);
      const better = !best || gain > best.gain || (gain === best.gain && steps.length < best.chain.length);
      if (gain > 0 && better) best = { chain: steps, gain };
    }
  }
  return best;
}

/**
 * Every node that a chain within table `t` connects with `n`, and the shortest chain to it (breadth first).
 */
function reach(draft: Draft, n: number, direction: Direction, t: number): Map<number, Chain> {
  const chains = new Map<number, Chain>([[n, []]]);
  for (const [at, chain] of chains) {
    const changes = [...changesAt(draft, at, direction)].sort((a, b) => a.p - b.p || a.to - b.to);
    for (const { p, from, to } of changes) {
      const next = direction === 'away' ? to : from;
      if (draft.partitions.table[p] !== t || chains.has(next)) continue;
      chains.set(next, direction === 'away' ? [{ p, to }, ...chain] : [...chain, { p, to }]);
    }
  }
  chains.delete(n);
  return chains;
}
