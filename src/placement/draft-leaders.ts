import { bump } from './counts.ts';
import type { DraftNodes } from './draft-nodes.ts';
import type { DraftPartitions } from './draft-partitions.ts';

/** Who leads what in a draft, counted along with every change. */
export class DraftLeaders {
  /** By partition; -1 where who leads it is not part of the cluster. */
  readonly of: Int32Array;
  /** By node. */
  readonly count: Int32Array;

  readonly #partitions: DraftPartitions;
  /** How many nodes there are. */
  readonly #width: number;
  readonly #ofTable: Int32Array;

  constructor(nodes: DraftNodes, partitions: DraftPartitions) {
    this.#partitions = partitions;
    this.#width = nodes.records.length;
    this.of = new Int32Array(partitions.records.length).fill(-1);
    this.count = new Int32Array(this.#width);
    this.#ofTable = new Int32Array(partitions.tables.length * this.#width);
    partitions.records.forEach(({ leader }, p) => {
      const n = nodes.find(leader);
      if (n >= 0) this.change(p, n);
    });
  }

  /** How many of a table a node leads. */
  ofTable(t: number, n: number): number {
    return this.#ofTable[t * this.#width + n] ?? 0;
  }

  change(p: number, n: number): void {
    const before = this.of[p] ?? -1;
    const row = (this.#partitions.table[p] ?? 0) * this.#width;
    if (before >= 0) this.#tally(before, row, -1);
    this.of[p] = n;
    this.#tally(n, row, 1);
  }

  #tally(n: number, row: number, by: 1 | -1): void {
    bump(this.count, n, by);
    bump(this.#ofTable, row + n, by);
  }
}
