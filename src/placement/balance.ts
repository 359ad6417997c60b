import { tableName } from '../catalog/view.ts';
import type { Draft } from './draft.ts';
import { BYTES_NOTICED, Scales } from './scales.ts';
import { canTake } from './targets.ts';

/**
 * A node this far from the mean is brought back to it; closer ones are left alone, or every write would start
 * a move.
 */
const BYTES_TOLERANCE = 0.05;
const COUNT_TOLERANCE = 0.04;
/** Enough to choose well from, in large clusters: the rest of the search only finds more of the same. */
const CANDIDATES_MAX = 500;
/**
 * Partners that are asked before a node counts as stuck: so many in its own locality, and so many elsewhere.
 */
const PARTNERS_MAX = 32;

type Side = 'under' | 'over';

interface Pair {
  readonly from: number;
  readonly to: number;
  /** The one of the two that is brought to the mean. */
  readonly levelled: number;
  /** Only replicas of this table; -1 for any. */
  readonly table: number;
}

interface Candidate {
  readonly p: number;
  readonly from: number;
  readonly to: number;
  readonly score: number;
}

/**
 * Evens out bytes and replicas, in all and per table. Only nodes outside the tolerance start a move, each
 * move lowers the imbalance (scales.ts), and none crowds localities. Ends where no such node has such a move:
 * planning again finds nothing.
 */
export function balance(draft: Draft): void {
  const takers = draft.nodes.takers();
  const scales = new Scales(draft, takers);
  const ranking = new Ranking(takers, scales);
  for (let moved = true; moved; ) {
    moved = false;
    for (const side of ['under', 'over'] as const) {
      // The emptiest and the fullest nodes first: their moves often mend the others on the way.
      const order = side === 'under' ? [...ranking.lightestFirst()] : [...ranking.heaviestFirst()];
      for (const n of order) if (level(draft, scales, ranking, n, side)) moved = true;
    }
  }
}

/** Brings one node from outside the tolerance back to the mean, as far as there are moves for it. */
function level(draft: Draft, scales: Scales, ranking: Ranking, n: number, side: Side): boolean {
  let moved = false;
  for (;;) {
    const candidate = firstOf(needs(draft, scales, n, side, moved), (need) => {
      const found = search(draft, scales, ranking, n, side, need);
      return found && { ...found, reason: reasonFor(draft, scales, n, need) };
    });
    if (!candidate) return moved;
    draft.moveReplica(candidate.p, candidate.from, candidate.to, 'balance', candidate.reason);
    ranking.update(candidate.from);
    ranking.update(candidate.to);
    moved = true;
  }
}

/**
 * What is out of balance on a node: all of it (-1), or single tables. Once it is being levelled, the mean
 * itself is the aim.
 */
function needs(draft: Draft, scales: Scales, n: number, side: Side, levelling: boolean): number[] {
  const sign = side === 'under' ? 1 : -1;
  const countSlack = levelling ? 0.51 : Math.max(1, COUNT_TOLERANCE * scales.meanReplicas) - 1e-9;
  const bytesSlack = Math.max(BYTES_TOLERANCE * scales.meanBytes, BYTES_NOTICED);
  const found: number[] = [];
  const replicasOff = sign * (scales.meanReplicas - (draft.replicas.count[n] ?? 0));
  const bytesOff = sign * (scales.meanBytes - (draft.replicas.bytes[n] ?? 0));
  if (replicasOff >= countSlack || bytesOff > bytesSlack) found.push(-1);
  const tableSlack = Math.max(1, COUNT_TOLERANCE * scales.meanReplicas) - 1e-9;
  for (const t of scales.tablesOfNote(tableSlack)) {
    if (sign * ((scales.meanOfTable[t] ?? 0) - draft.replicas.ofTable(t, n)) >= tableSlack) found.push(t);
  }
  return found;
}

function firstOf<T, R>(items: readonly T[], find: (item: T) => R | undefined): R | undefined {
  for (const item of items) {
    const found = find(item);
    if (found) return found;
  }
  return undefined;
}

/**
 * The best move into (`under`) or out of (`over`) node `n`; partners are asked in the order of their load.
 */
function search(
  draft: Draft,
  scales: Scales,
  ranking: Ranking,
  n: number,
  side: Side,
  table: number,
): Candidate | undefined {
  let best: Candidate | undefined;
  let seen = 0;
  let near = 0;
  let far = 0;
  for (const partner of side === 'under' ? ranking.heaviestFirst() : ranking.lightestFirst()) {
    if (partner === n) continue;
    if (draft.nodes.localities.nearness(n, partner) > 0 ? ++near > PARTNERS_MAX : ++far > PARTNERS_MAX) continue;
    const [from, to] = side === 'under' ? [partner, n] : [n, partner];
    const found = bestBetween(draft, scales, { from, to, levelled: n, table });
    if (found && (!best || found.score > best.score)) best = found;
    seen += draft.replicas.heldBy(from).length;
    if (best && seen >= CANDIDATES_MAX) break;
  }
  return best;
}

/**
 * The best replica to move between two nodes; a leader's only where a follower's would not be about as good.
 */
function bestBetween(draft: Draft, scales: Scales, pair: Pair): Candidate | undefined {
  const { from, to, table } = pair;
  let best: Candidate | undefined;
  const wanted = wantedBytes(draft, scales, pair.levelled);
  const slope = (scales.pressure(from) - scales.pressure(to)) / Math.max(1, scales.meanReplicas);
  for (const p of draft.replicas.heldBy(from)) {
    const t = draft.partitions.table[p] ?? 0;
    if (table >= 0 && t !== table) continue;
    const tableGap = 2 * (draft.replicas.ofTable(t, from) - draft.replicas.ofTable(t, to));
    const swing = draft.leaders.of[p] === from ? 2 : 0;
    const misfit = scales.misfit(draft.partitions.size[p] ?? 0, wanted);
    const value = slope + scales.unit * (tableGap - swing) - misfit;
    // What cannot win is not looked at closer: planning for 1,000 nodes spends its time here.
    if (best && value + scales.acquaintanceMax < best.score) continue;
    if (!canTake(draft, p, to) || !draft.isFree(p) || crowds(draft, p, from, to)) continue;
    if (scales.reliefOf(p, from) - scales.costOf(p, to) < scales.leastGain(p)) continue;
    const score = value + scales.acquaintance(p, to, from);
    if (!best || score > best.score || (score === best.score && p < best.p)) best = { p, from, to, score };
  }
  return best;
}

/**
 * A node 3 replicas and 3 GB away from the mean wants to move replicas of 1 GB: then bytes and counts get
 * there together.
 */
function wantedBytes(draft: Draft, scales: Scales, n: number): number {
  const bytesOff = scales.meanBytes - (draft.replicas.bytes[n] ?? 0);
  const replicasOff = scales.meanReplicas - (draft.replicas.count[n] ?? 0);
  if (Math.abs(replicasOff) < 1) return Math.abs(bytesOff);
  return Math.max(0, bytesOff / replicasOff);
}

function crowds(draft: Draft, p: number, from: number, to: number): boolean {
  if (!draft.nodes.localities.matter) return false;
  const holders = draft.replicas.holdersOf(p);
  return draft.nodes.localities.crowding(to, holders, from) > draft.nodes.localities.crowding(from, holders, from);
}

function reasonFor(draft: Draft, scales: Scales, n: number, need: number): string {
  const node = `node ${draft.nodes.id(n)} holds`;
  const round = (value: number) => String(Math.round(value * 10) / 10);
  const replicas = (count: number) => `${count} ${count === 1 ? 'replica' : 'replicas'}`;
  if (need >= 0) {
    const table = draft.partitions.tables[need];
    const name = table ? tableName(table) : '';
    const mean = round(scales.meanOfTable[need] ?? 0);
    return `${node} ${replicas(draft.replicas.ofTable(need, n))} of ${name}, the mean is ${mean}`;
  }
  const count = draft.replicas.count[n] ?? 0;
  if (Math.abs(count - scales.meanReplicas) > 0.5) {
    return `${node} ${replicas(count)}, the mean is ${round(scales.meanReplicas)}`;
  }
  const mb = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;
  return `${node} ${mb(draft.replicas.bytes[n] ?? 0)}, the mean is ${mb(scales.meanBytes)}`;
}

/** Nodes by pressure, kept in order while moves change two of them at a time. */
class Ranking {
  readonly #scales: Scales;
  readonly #order: number[];
  readonly #pressure = new Map<number, number>();

  constructor(nodes: readonly number[], scales: Scales) {
    this.#scales = scales;
    for (const n of nodes) this.#pressure.set(n, scales.pressure(n));
    this.#order = [...nodes].sort((a, b) => this.#compare(a, b));
  }

  #compare(a: number, b: number): number {
    return (this.#pressure.get(a) ?? 0) - (this.#pressure.get(b) ?? 0) || a - b;
  }

  update(n: number): void {
    this.#order.splice(this.#order.indexOf(n), 1);
    this.#pressure.set(n, this.#scales.pressure(n));
    let low = 0;
    let high = this.#order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(this.#order[middle] ?? 0, n) < 0) low = middle + 1;
      else high = middle;
    }
    this.#order.splice(low, 0, n);
  }

  lightestFirst(): readonly number[] {
    return this.#order;
  }

  *heaviestFirst(): Generator<number> {
    for (let i = this.#order.length - 1; i >= 0; i--) yield this.#order[i] ?? 0;
  }
}
