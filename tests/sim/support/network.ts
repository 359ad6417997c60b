import type { NodeId } from '../../../src/catalog/model.ts';

/** Which node's packets reach which other node. */
export class Network {
  readonly #cut = new Map<number, number>();

  /** From one to the other only; held by whoever asked, until all have let go. */
  cut(from: NodeId, to: NodeId): void {
    const way = wayOf(from, to);
    this.#cut.set(way, (this.#cut.get(way) ?? 0) + 1);
  }

  mend(from: NodeId, to: NodeId): void {
    const way = wayOf(from, to);
    const left = (this.#cut.get(way) ?? 0) - 1;
    if (left > 0) this.#cut.set(way, left);
    else this.#cut.delete(way);
  }

  passes(from: NodeId, to: NodeId): boolean {
    return !this.#cut.has(wayOf(from, to));
  }

  /** A connection needs both ways. */
  linked(a: NodeId, b: NodeId): boolean {
    return this.passes(a, b) && this.passes(b, a);
  }
}

/** Asked at every row that is sent. */
function wayOf(from: NodeId, to: NodeId): number {
  return from * 1_000 + to;
}
