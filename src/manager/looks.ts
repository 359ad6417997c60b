import type { NodeId } from '../catalog/model.ts';

/** One look at a time at every node; one that is still being looked at holds up no other. */
export class Looks {
  readonly #failed: (node: NodeId, error: unknown) => void;
  readonly #atWork = new Map<NodeId, Promise<void>>();

  /** `failed`: hears why a look was not finished. */
  constructor(failed: (node: NodeId, error: unknown) => void) {
    this.#failed = failed;
  }

  begin(nodes: readonly NodeId[], look: (node: NodeId) => Promise<void>): void {
    for (const node of nodes.filter((n) => !this.#atWork.has(n))) {
      const work = look(node)
        .catch((error) => this.#failed(node, error))
        .finally(() => this.#atWork.delete(node));
      this.#atWork.set(node, work);
    }
  }

  /** Until the looks that were begun have ended. */
  async idle(): Promise<void> {
    await Promise.all(this.#atWork.values());
  }
}
