import type { ClusterView, LoadView, NodeId, NodeLoad } from '../catalog/model.ts';
import { allPartitions, connectedNodes, partitionKey } from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import type { Measurements } from './measurements.ts';

/** What a node says of itself, every half second. */
export interface Beat {
  node: NodeId;
  postgresUp: boolean;
  /** No client gets in: it is fenced, or does not run. */
  fenced: boolean;
  /** It has no lease of a shared meta store, and lets nobody in. */
  barred: boolean;
  /** The newest format of the meta store that its program knows. */
  metaFormat: number;
  diskTotalBytes: number;
  diskFreeBytes: number;
}

/**
 * A node that has not beaten for this long, or whose PostgreSQL does not answer or is fenced, is not alive.
 */
const ALIVE_MS = 3_000;
/** How long a plan waits for figures from now. */
const LOOK_MS = 2_000;

/** What heartbeats last said, and what was measured. */
export class ClusterLoad {
  readonly #clock: Clock;
  readonly #isOut: (node: NodeId) => boolean;
  readonly #heldBack: () => ReadonlyMap<string, string>;
  /**
   * `downSinceMs`: since when it has said without a break that its PostgreSQL neither answers nor could let
   * anybody in.
   */
  readonly #beats = new Map<NodeId, Beat & { atMs: number; servedAtMs: number | null; downSinceMs: number | null }>();
  readonly measurements: Measurements;

  constructor(
    clock: Clock,
    measurements: Measurements,
    isOut: (node: NodeId) => boolean,
    heldBack: () => ReadonlyMap<string, string> = () => new Map(),
  ) {
    this.#clock = clock;
    this.measurements = measurements;
    this.#isOut = isOut;
    this.#heldBack = heldBack;
  }

  beat(beat: Beat): void {
    const atMs = this.#clock.nowMs();
    const isDown = beat.fenced && !beat.postgresUp;
    const before = this.#beats.get(beat.node);
    const downSinceMs = isDown ? (before?.downSinceMs ?? atMs) : null;
    const servedAtMs = beat.barred && before ? before.servedAtMs : atMs;
    this.#beats.set(beat.node, { ...beat, atMs, servedAtMs, downSinceMs });
  }

  /**
   * When it last beat without being barred; one that beats and is barred serves nobody, as if it were silent.
   */
  mayHaveServedAt(node: NodeId): number | null {
    return this.#beats.get(node)?.servedAtMs ?? null;
  }

  beatAt(node: NodeId): number | null {
    return this.#beats.get(node)?.atMs ?? null;
  }

  /** It beats, its PostgreSQL answers and lets clients in, and it is not out. */
  alive(node: NodeId): boolean {
    return this.reachable(node) && this.#beats.get(node)?.fenced === false && !this.#isOut(node);
  }

  /** The manager can ask its PostgreSQL, fenced or not. */
  reachable(node: NodeId): boolean {
    const beat = this.#beats.get(node);
    return beat?.postgresUp === true && this.#clock.nowMs() - beat.atMs < ALIVE_MS;
  }

  /** 0 where it has not beaten yet. */
  metaFormat(node: NodeId): number {
    return this.#beats.get(node)?.metaFormat ?? 0;
  }

  fenced(node: NodeId): boolean {
    return this.#beats.get(node)?.fenced === true;
  }

  downSinceMs(node: NodeId): number | null {
    return this.#beats.get(node)?.downSinceMs ?? null;
  }

  /**
   * True once every live node has told its sizes: before that a plan would take full nodes for empty ones.
   */
  measured(view: ClusterView): boolean {
    return connectedNodes(view).every((n) => !this.alive(n.id) || this.measurements.measuredAt(n.id) !== null);
  }

  /** Looks at what is due of the live nodes, in the background. */
  measure(view: ClusterView): void {
    this.measurements.round(this.#measurable(view));
  }

  /**
   * Looks at all live nodes now, for a plan; one that does not answer in time is planned with as it was last
   * measured.
   */
  async measureNow(view: ClusterView): Promise<void> {
    await this.measurements.anew(this.#measurable(view), LOOK_MS);
  }

  #measurable(view: ClusterView): NodeId[] {
    return connectedNodes(view)
      .filter((n) => this.alive(n.id) && n.state !== 'joining')
      .map((n) => n.id);
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
      const size = this.measurements.sizeOf(partition.leader, key);
      if (size) partitionBytes.set(key, size.bytes);
    }
    return { nodes, partitionBytes, heldBack: this.#heldBack() };
  }
}
