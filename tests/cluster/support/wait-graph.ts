import { setTimeout as sleep } from 'node:timers/promises';
import { edgeKey, type OpenSession, type WaitEdge, waitEdges } from '../../../src/catalog/deadlocks.ts';
import { readOpenSessions } from '../../../src/postgres/sql/waits.ts';
import type { LocalCluster } from '../../support/cluster.ts';

const POLL_MS = 100;

/**
 * Watches who waits for whom on all nodes, from outside. A wait that two looks in a row have met was there
 * all the time between them, so waits in a circle that were all met by both are a deadlock.
 */
export class WaitGraph {
  /** Longest that a deadlock was seen, milliseconds, from the look that met it first. */
  longestMs = 0;
  looks = 0;
  readonly failures: string[] = [];
  /** Clients that were seen in a deadlock, as `node/pid`, and when last. */
  readonly #seenMs = new Map<string, number>();
  #metMs = new Map<string, number>();
  #deadlocksMs = new Map<string, number>();
  readonly #stopping = new AbortController();
  readonly #watching: Promise<void>;
  readonly #cluster: LocalCluster;
  readonly #nodes: readonly number[];

  constructor(cluster: LocalCluster, nodes: readonly number[]) {
    this.#cluster = cluster;
    this.#nodes = nodes;
    this.#watching = this.#watch();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
  }

  /** Whether the client was in a deadlock within the last `ms`. */
  saw(node: number, pid: number, ms: number): boolean {
    return performance.now() - (this.#seenMs.get(`${node}/${pid}`) ?? -Infinity) <= ms;
  }

  async #watch(): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      await this.#look().catch((error) => this.failures.push(String(error)));
      await sleep(POLL_MS, undefined, { signal: this.#stopping.signal }).catch(() => {});
    }
  }

  async #look(): Promise<void> {
    const beganMs = performance.now();
    const reports = await Promise.all(
      this.#nodes.map(async (node): Promise<[number, OpenSession[]]> => {
        const pool = this.#cluster.manager(node);
        const sql = { query: async (text: string, values?: unknown[]) => (await pool.query(text, values)).rows };
        const open = await readOpenSessions(sql as Parameters<typeof readOpenSessions>[0]);
        return [node, open.map((s) => ({ ...s, startMs: beganMs - s.ageMs }))];
      }),
    );
    this.looks++;
    const edges = waitEdges(new Map(reports));
    const before = this.#metMs;
    this.#metMs = new Map(edges.map((e) => [edgeKey(e), before.get(edgeKey(e)) ?? performance.now()]));
    const deadlocked = circles(edges.filter((e) => before.has(edgeKey(e))));
    const since = this.#deadlocksMs;
    this.#deadlocksMs = new Map();
    for (const { from } of deadlocked) {
      const sinceMs = since.get(from.id) ?? beganMs;
      this.#deadlocksMs.set(from.id, sinceMs);
      this.longestMs = Math.max(this.longestMs, performance.now() - sinceMs);
      this.#seenMs.set(`${from.node}/${from.processId}`, performance.now());
    }
  }
}

/**
 * Waits that neither begin with somebody nobody waits for nor end with somebody who waits for nobody: what is
 * left without those.
 */
function circles(edges: readonly WaitEdge[]): WaitEdge[] {
  const waits = new Set(edges.map((e) => e.from.id));
  const awaited = new Set(edges.map((e) => e.to.id));
  const left = edges.filter((e) => waits.has(e.to.id) && awaited.has(e.from.id));
  return left.length === edges.length ? left : circles(left);
}
