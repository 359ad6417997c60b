import { setTimeout as sleep } from 'node:timers/promises';
import { topology } from '../../src/api/http-client.ts';
import { partitionKey } from '../../src/catalog/view.ts';
import { changedTopology, type Topology, type TopologyChange } from '../../src/routing/topology.ts';

const AGAIN_MS = 100;
const CALL_MS = 15_000;

/**
 * Follows the topology through one node, as a gateway does, and notes what must not be: in the order of
 * revisions or of epochs.
 */
export class TopologyWatch {
  readonly #address: string;
  readonly #ending = new AbortController();
  readonly #hear: (topology: Topology) => void;
  readonly broken: string[] = [];
  /** How old the node's copy was when it last answered. */
  ageMs = 0;
  #topology: Topology | null = null;
  #following: Promise<void>;

  /** `address`: HOST:PORT of the node. `hear` is told of every topology that it gives. */
  constructor(address: string, hear: (topology: Topology) => void = () => {}) {
    this.#address = address;
    this.#hear = hear;
    this.#following = this.#follow();
  }

  get topology(): Topology | null {
    return this.#topology;
  }

  async end(): Promise<void> {
    this.#ending.abort();
    await this.#following;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      const after = this.#topology?.revision ?? null;
      const answer = await topology(this.#address, after, { timeoutMs: CALL_MS, signal }).catch(() => null);
      if (answer === null) await sleep(AGAIN_MS);
      else this.ageMs = answer.ageMs;
      if (answer?.change) this.#take(answer.change);
    }
  }

  #take(change: TopologyChange): void {
    const before = this.#topology;
    const after = changedTopology(before, change);
    if (after === null) {
      this.broken.push(`a change of ${change.from} came for ${before?.revision}`);
      return;
    }
    if (before && after.revision <= before.revision) this.broken.push(`${before.revision}, then ${after.revision}`);
    for (const { tid, pid, epoch, leader } of [...after.tables.values()].flatMap((t) => t.partitions)) {
      const known = before?.tables.get(tid)?.partitions[pid];
      if (known && (epoch < known.epoch || (epoch === known.epoch && leader !== known.leader)))
        this.broken.push(`${partitionKey(tid, pid)}: ${known.leader} in ${known.epoch}, then ${leader} in ${epoch}`);
    }
    this.#topology = after;
    this.#hear(after);
  }
}
