import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeStatusRow, OperationRow, PartitionRow } from '../api/results.ts';
import type { LocalCluster } from '../local/local-cluster.ts';

const POLL_MS = 500;
/** Off a terminal nobody sees the picture: then the cluster is asked less often. */
const QUIET_POLL_MS = 2_000;

export interface Seen {
  readonly nodes: readonly NodeStatusRow[];
  readonly partitions: readonly PartitionRow[];
  readonly operations: readonly OperationRow[];
}

/** Asks the cluster again and again how it looks; `onSeen` hears every answer. Ends with `stop()`. */
export class Watcher {
  readonly #cluster: LocalCluster;
  readonly #onSeen: (seen: Seen) => void;
  readonly #pollMs: number;
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();

  constructor(cluster: LocalCluster, isLive: boolean, onSeen: (seen: Seen) => void) {
    this.#cluster = cluster;
    this.#pollMs = isLive ? POLL_MS : QUIET_POLL_MS;
    this.#onSeen = onSeen;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      // An answer that does not come is no news: the picture stays as it was.
      const seen = await this.#look().catch(() => null);
      if (seen) this.#onSeen(seen);
      await sleep(this.#pollMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
    }
  }

  async #look(): Promise<Seen> {
    const [nodes, partitions, operations] = await Promise.all([
      this.#cluster.admin({ do: 'node-status' }),
      this.#cluster.admin({ do: 'partition-ls' }),
      this.#cluster.admin({ do: 'op-ls' }),
    ]);
    return { nodes, partitions, operations };
  }
}
