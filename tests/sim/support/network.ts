import type { NodeId } from '../../../src/catalog/model.ts';

/** Which node's packets reach which other node. */
export class Network {
  readonly #cut = new Map<string, number>();

  /** From one to the other only; held by whoever asked, until all have let go. */
  cut(from: NodeId, to: NodeId): void {
    this.#cut.set(`${from}>${to}`, (this.#cut.get(`${from}>${to}`) ?? 0) + 1);
  }

  mend(from: NodeId, to: NodeId): void {
    const left = (this.#cut.get(`${from}>${to}`) ?? 0) - 1;
    if (left > 0) this.#cut.set(`${from}>${to}`, left);
    else this.#cut.delete(`${from}>${to}`);
  }

  passes(from: NodeId, to: NodeId): boolean {
    return !this.#cut.has(`${from}>${to}`);
  }

  /** A connection needs both ways. */
  linked(a: NodeId, b: NodeId): boolean {
    return this.passes(a, b) && this.passes(b, a);
  }
}
