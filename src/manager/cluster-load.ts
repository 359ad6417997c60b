import type { ClusterView, LoadView, NodeId, NodeLoad } from '../catalog/model.ts';
import { allPartitions, connectedNodes, partitionKey } from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import type { Inspector } from './ports.ts';

/** What a node says of itself, every half second. */
export interface Beat {
  node: NodeId;
  postgresUp: boolean;
  diskTotalBytes: number;
  diskFreeBytes: number;
}

/** A node that has not beaten for this long, or says that its PostgreSQL does not answer, is not alive. */
const ALIVE_MS = 3_000;

export interface ReplicaSize {
  bytes: number;
  rows: number;
}

/** What heartbeats and size queries last said. */
export class ClusterLoad {
  readonly #clock: Clock;
  readonly #inspector: Inspector;
  readonly #beats = new Map<NodeId, Beat & { atMs: number }>();
  readonly #sizes = new Map<NodeId, Map<string, ReplicaSize>>();
  readonly #lags = new Map<NodeId, Map<string, { replayLsn: string; lagBytes: number }>>();

  constructor(clock: Clock, inspector: Inspector) {
    this.#clock = clock;
    this.#inspector = inspector;
  }

  beat(beat: Beat): void {
    this.#beats.set(beat.node, { ...beat, atMs: this.#clock.nowMs() });
  }

  beatAt(node: NodeId): number | null {
    return this.#beats.get(node)?.atMs ?? null;
  }

  alive(node: NodeId): boolean {
    const beat = this.#beats.get(node);
    return beat?.postgresUp === true && this.#clock.nowMs() - beat.atMs < ALIVE_MS;
  }

  sizeOf(node: NodeId, key: string): ReplicaSize | null {
    return this.#sizes.get(node)?.get(key) ?? null;
  }

  lagOf(sender: NodeId, subscription: string): { replayLsn: string; lagBytes: number } | null {
    return this.#lags.get(sender)?.get(subscription) ?? null;
  }

  /** True once every live node has told its sizes: before that a plan would take full nodes for empty ones. */
  measured(view: ClusterView): boolean {
    return connectedNodes(view).every((n) => !this.alive(n.id) || this.#sizes.has(n.id));
  }

  /** Asks every live node for sizes and lag; a node that fails keeps what it last said. */
  async measure(view: ClusterView): Promise<void> {
    const live = connectedNodes(view).filter((n) => this.alive(n.id) && n.state !== 'joining');
    await Promise.allSettled(
      live.map(async ({ id }) => {
        const sizes = await this.#inspector.sizes(id);
        this.#sizes.set(id, new Map(sizes.map((s) => [partitionKey(s.tid, s.pid), { bytes: s.bytes, rows: s.rows }])));
        this.#lags.set(id, await this.#inspector.lag(id));
      }),
    );
  }

  view(view: ClusterView): LoadView {
    const nodes = new Map<NodeId, NodeLoad>();
    for (const { id } of view.nodes.values()) {
      const beat = this.#beats.get(id);
      nodes.set(id, {
        node: id,
        alive: this.alive(id),
        diskTotalBytes: beat?.diskTotalBytes ?? 0,
        diskFreeBytes: beat?.diskFreeBytes ?? 0,
      });
    }
    const partitionBytes = new Map<string, number>();
    for (const { partition } of allPartitions(view)) {
      const key = partitionKey(partition.tid, partition.pid);
      const size = this.sizeOf(partition.leader, key);
      if (size) partitionBytes.set(key, size.bytes);
    }
    return { nodes, partitionBytes };
  }
}
