import type { Draft } from './draft.ts';

/** Bytes come first among the aims of the balance; counts of replicas, in all and per table, follow. */
const BYTES_WEIGHT = 4;
/** Below this, differences in bytes are nobody's problem: small tables are balanced by counts. */
export const BYTES_NOTICED = 8 * 2 ** 20;
/** A move that improves less than this share of what one like it could is not worth its bytes. */
const WORTHWHILE = 1 / 4;
/** Breaks ties only: an eighth of what one replica more or less is worth. */
const ACQUAINTANCE_WEIGHT = 1 / 8;

/**
 * What a replica costs the balance of a node. The imbalance of a cluster is the sum of squares, over its
 * nodes, of bytes, replicas, and replicas per table, each relative to the mean node; a replica's cost is what
 * it adds to that sum. A move is worth it only if it lowers the sum, and such moves cannot go round in
 * circles.
 */
export class Scales {
  readonly #draft: Draft;
  readonly meanReplicas: number;
  readonly meanBytes: number;
  /** Mean replicas of each table on a node. */
  readonly meanOfTable: Float64Array;
  #noted: { least: number; tables: readonly number[] } = { least: -1, tables: [] };
  readonly #byteUnit: number;
  /** What one replica is worth: the square of its share of a mean node. */
  readonly unit: number;
  /** No acquaintance is worth more. */
  readonly acquaintanceMax: number;

  constructor(draft: Draft, takers: readonly number[]) {
    this.#draft = draft;
    const count = Math.max(1, takers.length);
    const sum = (of: (n: number) => number) => takers.reduce((total, n) => total + of(n), 0);
    this.meanReplicas = sum((n) => draft.replicas.count[n] ?? 0) / count;
    this.meanBytes = sum((n) => draft.replicas.bytes[n] ?? 0) / count;
    this.meanOfTable = Float64Array.from(
      draft.partitions.tables,
      (_, t) => sum((n) => draft.replicas.ofTable(t, n)) / count,
    );
    this.#byteUnit = 1 / Math.max(this.meanBytes, BYTES_NOTICED);
    this.unit = 1 / Math.max(1, this.meanReplicas) ** 2;
    this.acquaintanceMax = ACQUAINTANCE_WEIGHT * this.unit;
  }

  /** What a replica of `p` on node `n`, which does not hold it yet, would add to the imbalance. */
  costOf(p: number, n: number): number {
    return this.#derivative(p, n, 1);
  }

  /** What the imbalance would lose if the replica of `p` left node `n`. */
  reliefOf(p: number, n: number): number {
    return this.#derivative(p, n, -1);
  }

  #derivative(p: number, n: number, sign: 1 | -1): number {
    const draft = this.#draft;
    const size = (draft.partitions.size[p] ?? 0) * this.#byteUnit;
    const bytes = BYTES_WEIGHT * size * (2 * (draft.replicas.bytes[n] ?? 0) * this.#byteUnit + sign * size);
    const replicas = 2 * (draft.replicas.count[n] ?? 0) + sign;
    const ofTable = 2 * draft.replicas.ofTable(draft.partitions.table[p] ?? 0, n) + sign;
    return bytes + this.unit * (replicas + ofTable);
  }

  /** Tables with at least `least` partitions: a smaller one cannot be so many replicas off on any node. */
  tablesOfNote(least: number): readonly number[] {
    if (this.#noted.least !== least) {
      const tables = [...this.#draft.partitions.tables.keys()];
      this.#noted = {
        least,
        tables: tables.filter((t) => (this.#draft.partitions.tables[t]?.partitionCount ?? 0) >= least),
      };
    }
    return this.#noted.tables;
  }

  /**
   * The least by which a move of `p` has to lower the imbalance: nearly equal replicas are not exchanged for
   * each other.
   */
  leastGain(p: number): number {
    return WORTHWHILE * (this.misfit(this.#draft.partitions.size[p] ?? 0, 0) + this.unit);
  }

  /**
   * How heavily a node is loaded, to rank nodes before looking at single partitions; bytes and replicas weigh
   * the same here.
   */
  pressure(n: number): number {
    const draft = this.#draft;
    return (
      (draft.replicas.bytes[n] ?? 0) * this.#byteUnit + (draft.replicas.count[n] ?? 0) / Math.max(1, this.meanReplicas)
    );
  }

  /**
   * A small bonus where `n` already shares partitions with the other holders of `p`: fewer pairs of nodes
   * share data, so fewer pairs lose data when both die, and the quorum list stays short (scatter width; Cidon
   * et al., Copysets, 2013).
   */
  acquaintance(p: number, n: number, leaving = -1): number {
    const others = this.#draft.replicas.holdersOf(p).length;
    return (this.acquaintanceMax * this.#draft.replicas.acquainted(n, p, leaving)) / Math.max(1, others);
  }

  /** How far `size` is from `wanted` bytes, in the same measure as the costs. */
  misfit(size: number, wanted: number): number {
    return BYTES_WEIGHT * ((size - wanted) * this.#byteUnit) ** 2;
  }
}
