import type { TopologyAnswer } from '../api/topology.ts';
import {
  changedTopology,
  changesNothing,
  type Topology,
  type TopologyChange,
  topologyChange,
  wholeTopology,
} from '../routing/topology.ts';

/** Whoever has one of so many latest revisions is told the difference. They share nearly all they hold. */
const KEPT_MAX = 256;

/**
 * This node's copy of the topology, and whoever waits for the next one. Where the manager stops or cannot be
 * reached it only grows old.
 */
export class TopologyFeed {
  /** The latest, oldest first, by their revisions. */
  readonly #kept = new Map<number, Topology>();
  readonly #waiting = new Set<() => void>();
  #follower: (topology: Topology) => void = () => {};
  #newest: Topology | null = null;
  #heardMs = 0;

  get revision(): number | null {
    return this.#newest?.revision ?? null;
  }

  /** Hears of every topology that comes, and of the one that there is. */
  follow(follower: (topology: Topology) => void): void {
    this.#follower = follower;
    if (this.#newest !== null) follower(this.#newest);
  }

  /** The manager in this process has it. An older one comes too late, from one that another has followed. */
  publish(topology: Topology): void {
    if (this.#newest !== null && topology.revision < this.#newest.revision) return;
    this.#keep(topology);
  }

  /**
   * The manager has said so, elsewhere. A whole topology counts even where its revision is lower: its meta
   * store has gone back.
   */
  take(change: TopologyChange | null): void {
    const topology = change === null ? this.#newest : changedTopology(this.#newest, change);
    if (topology !== null) this.#keep(topology);
  }

  /** The manager has no newer one. */
  confirm(): void {
    this.#heardMs = performance.now();
  }

  #keep(topology: Topology): void {
    this.confirm();
    const before = this.#newest;
    if (before?.revision === topology.revision) return;
    if (before && topology.revision < before.revision) this.#kept.clear();
    this.#newest = topology;
    this.#follower(topology);
    this.#kept.set(topology.revision, topology);
    for (const revision of this.#kept.keys()) {
      if (this.#kept.size <= KEPT_MAX) break;
      this.#kept.delete(revision);
    }
    if (before && changesNothing(topologyChange(before, topology))) return;
    for (const wake of this.#waiting) wake();
  }

  /**
   * What is newer than `after` (null: the caller has nothing): at once, or when it comes, for `waitMs` at
   * most. Null where this node has heard of no topology in that time. A caller who is ahead of this copy is
   * given all of it only where the manager has confirmed it late in that time: then the cluster itself has
   * gone back, as to an older copy of its meta store, and not this node fallen behind.
   */
  async poll(after: number | null, waitMs: number, signal: AbortSignal): Promise<TopologyAnswer | null> {
    const began = performance.now();
    if (!this.#isNewer(after)) await this.#next(waitMs, signal);
    const topology = this.#newest;
    if (topology === null) return null;
    const ageMs = Math.round(performance.now() - this.#heardMs);
    if (this.#isNewer(after)) {
      const known = after === null ? undefined : this.#kept.get(after);
      return { change: known ? topologyChange(known, topology) : wholeTopology(topology), ageMs };
    }
    const hasGoneBack = after !== topology.revision && this.#heardMs > began + waitMs / 2;
    return { change: hasGoneBack ? wholeTopology(topology) : null, ageMs };
  }

  #isNewer(after: number | null): boolean {
    return this.#newest !== null && (after === null || this.#newest.revision > after);
  }

  #next(waitMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(end);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, waitMs);
      this.#waiting.add(end);
      signal.addEventListener('abort', end);
      if (signal.aborted) end();
    });
  }
}
