import type { ClusterView, LoadView } from '../catalog/model.ts';
import { must } from '../core/assert.ts';
import { bump } from './counts.ts';
import type { DraftNodes } from './draft-nodes.ts';
import type { DraftPartitions } from './draft-partitions.ts';
import { roomOf } from './room.ts';

/** Who holds what in a draft, counted along with every change. */
export class DraftReplicas {
  /** By node. */
  readonly count: Int32Array;
  readonly bytes: Float64Array;
  /** Bytes a node can still take above the margin; infinite where the size of the disk is unknown. */
  readonly room: Float64Array;

  readonly #partitions: DraftPartitions;
  /** How many nodes there are. */
  readonly #width: number;
  readonly #held: readonly number[][];
  readonly #holders: readonly number[][];
  readonly #ofTable: Int32Array;
  /**
   * Partitions that two nodes share, by pair: where it is 0, another shared partition widens the scatter of
   * both.
   */
  readonly #shared: Int32Array;
  readonly #notReady = new Set<number>();

  constructor(view: ClusterView, load: LoadView, nodes: DraftNodes, partitions: DraftPartitions) {
    const width = nodes.records.length;
    this.#partitions = partitions;
    this.#width = width;
    this.count = new Int32Array(width);
    this.bytes = new Float64Array(width);
    this.room = Float64Array.from(nodes.records, (node) => roomOf(view, load, node.id));
    this.#held = nodes.records.map(() => []);
    this.#holders = partitions.records.map(() => []);
    this.#ofTable = new Int32Array(partitions.tables.length * width);
    this.#shared = new Int32Array(width * width);
    partitions.records.forEach(({ replicas }, p) => {
      for (const { node, state } of replicas) {
        const n = nodes.find(node);
        // A table that is being made or dropped, frozen here, still names a node that was dropped for good.
        if (n < 0) continue;
        this.#hold(p, n, 1);
        this.#holders[p]?.push(n);
        if (state !== 'ready') this.#notReady.add(p * width + n);
      }
    });
  }

  holdersOf(p: number): readonly number[] {
    return must(this.#holders[p], 'partition');
  }

  heldBy(n: number): readonly number[] {
    return must(this.#held[n], 'node');
  }

  holds(n: number, p: number): boolean {
    return this.holdersOf(p).includes(n);
  }

  isReady(p: number, n: number): boolean {
    return this.holds(n, p) && !this.#notReady.has(p * this.#width + n);
  }

  /** How many of a table a node holds. */
  ofTable(t: number, n: number): number {
    return this.#ofTable[t * this.#width + n] ?? 0;
  }

  /** How many of the partition's other holders already share a partition with `n`. */
  acquainted(n: number, p: number, leaving = -1): number {
    let known = 0;
    for (const other of this.holdersOf(p)) {
      if (other !== leaving && (this.#shared[n * this.#width + other] ?? 0) > 0) known++;
    }
    return known;
  }

  add(p: number, n: number): void {
    this.#hold(p, n, 1);
    must(this.#holders[p], 'partition').push(n);
    this.room[n] = (this.room[n] ?? 0) - (this.#partitions.size[p] ?? 0);
  }

  remove(p: number, n: number): void {
    const holders = must(this.#holders[p], 'partition');
    holders.splice(holders.indexOf(n), 1);
    this.#hold(p, n, -1);
    this.makeReady(p, n);
    this.room[n] = (this.room[n] ?? 0) + (this.#partitions.size[p] ?? 0);
  }

  makeReady(p: number, n: number): void {
    this.#notReady.delete(p * this.#width + n);
  }

  #hold(p: number, n: number, sign: 1 | -1): void {
    const width = this.#width;
    bump(this.count, n, sign);
    bump(this.bytes, n, sign * (this.#partitions.size[p] ?? 0));
    bump(this.#ofTable, (this.#partitions.table[p] ?? 0) * width + n, sign);
    for (const other of this.holdersOf(p)) {
      if (other === n) continue;
      bump(this.#shared, n * width + other, sign);
      bump(this.#shared, other * width + n, sign);
    }
    const held = must(this.#held[n], 'node');
    if (sign === 1) {
      held.push(p);
      return;
    }
    const last = must(held.pop(), 'replica');
    if (last !== p) held[held.indexOf(p)] = last;
  }
}
