import { setMaxListeners } from 'node:events';
import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { AdminRequest } from '../../src/api/commands.ts';
import type { EventRow, OperationRow, PartitionRow, Results } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import type { LocalCluster } from '../../src/local/local-cluster.ts';
import type { Random } from '../fakes/random.ts';

/**
 * What the actors of a soak run share: the cluster, who is disturbed when, who led what when, and what was
 * found.
 */

/** A node under a fault; `endMs` is null while it lasts. Moments are those of `performance.now()`. */
interface Disturbance {
  readonly node: number;
  readonly what: string;
  readonly beganMs: number;
  endMs: number | null;
}

/** A statement that failed. */
export interface FailedStatement {
  readonly what: string;
  readonly through: number;
  readonly table: string;
  /** Partitions it touched; null: all. */
  readonly pids: () => Promise<readonly number[] | null>;
  readonly beganMs: number;
  readonly endedMs: number;
  readonly message: string;
}

/** Partition and nodes of a `leader-changed` event. */
const LEADER_CHANGED = /^(\d+)\/(\d+): node (\d+) → node (\d+)$/;
/**
 * A hinge may lead to an earlier leader for as long as an old transaction keeps it from being pointed anew.
 */
const LED_BEFORE_MS = 60_000;
/** Connections that broke with a server are found broken a little later. */
const AFTERMATH_MS = 3_000;

export class World {
  readonly cluster: LocalCluster;
  readonly random: Random;
  /** Nodes that are members and take traffic. */
  readonly members = new Set<number>();
  readonly findings: string[] = [];
  readonly counts = new Map<string, number>();
  /** How long the run took. */
  minutes = 0;
  readonly #traceFile: string;
  readonly #beganMs = performance.now();
  readonly #disturbances: Disturbance[] = [];
  readonly #leaders = new Map<string, { node: number; lastMs: number }[]>();
  readonly #stopping = new AbortController();
  /** When somebody has last been told who leads. */
  #toldMs = 0;
  #failed: FailedStatement[] = [];

  constructor(cluster: LocalCluster, random: Random, traceFile: string) {
    this.cluster = cluster;
    this.random = random;
    this.#traceFile = traceFile;
    setMaxListeners(0, this.#stopping.signal);
  }

  get stopping(): boolean {
    return this.#stopping.signal.aborted;
  }

  /** Ends the run; what follows is the proof. */
  stop(): void {
    if (this.stopping) return;
    this.minutes = (performance.now() - this.#beganMs) / 60_000;
    this.#stopping.abort();
  }

  /** Shorter when the run comes to its end. */
  async pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#stopping.signal }).catch(() => {});
  }

  trace(text: string): void {
    const seconds = ((performance.now() - this.#beganMs) / 1000).toFixed(2).padStart(8);
    appendFileSync(this.#traceFile, `${seconds} ${new Date().toISOString().slice(11, 23)} ${text}\n`);
  }

  /** Something that must not be. */
  find(text: string): void {
    this.trace(`FOUND ${text}`);
    this.findings.push(text);
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  /** Members whose process runs and that no fault has in its hands. */
  get calm(): number[] {
    const disturbed = new Set(this.#disturbances.filter((d) => d.endMs === null).map((d) => d.node));
    return [...this.members].filter((id) => !disturbed.has(id) && this.cluster.node(id).isRunning);
  }

  async admin<R extends AdminRequest>(command: R, timeoutMs = 10_000): Promise<Results[R['do']]> {
    const node = this.calm[0] ?? must([...this.members][0], 'a member');
    return this.cluster.admin(command, { node, timeoutMs });
  }

  /** Operations that have not ended; `op ls` also lists those that ended lately. */
  async unended(): Promise<OperationRow[]> {
    return (await this.admin({ do: 'op-ls' })).filter((o) => o.endedAt === null);
  }

  /** Marks a node as disturbed; returns what ends that. */
  disturb(node: number, what: string): () => void {
    const disturbance: Disturbance = { node, what, beganMs: performance.now(), endMs: null };
    this.#disturbances.push(disturbance);
    this.trace(`fault: ${what} node ${node}`);
    this.count(`fault ${what}`);
    return () => {
      disturbance.endMs = performance.now();
      this.trace(`fault over: ${what} node ${node} after ${Math.round(disturbance.endMs - disturbance.beganMs)} ms`);
    };
  }

  /** Whether any node was disturbed between two moments. */
  disturbedBetween(fromMs: number, toMs: number, nodes?: ReadonlySet<number>): boolean {
    return this.#disturbances.some(
      (d) =>
        (nodes?.has(d.node) ?? true) && d.beganMs <= toMs && (d.endMs === null || d.endMs + AFTERMATH_MS >= fromMs),
    );
  }

  /** `events`: those since the look before, asked for before `rows`. */
  seeLeaders(rows: readonly PartitionRow[], events: readonly EventRow[], askedMs: number): void {
    const leaders = rows.filter((r) => r.role === 'leader');
    const tables = new Map(leaders.map((r) => [r.tid, r.table]));
    for (const { kind, at, text } of events.filter((e) => e.kind === 'leader-changed')) {
      const [tid, pid, from, to] = must(LEADER_CHANGED.exec(text), `event ${kind}: ${text}`).slice(1).map(Number);
      // Of a table that has been dropped since.
      const table = tables.get(must(tid, 'tid'));
      if (table === undefined) continue;
      const atMs = Date.parse(at) - performance.timeOrigin;
      for (const node of [from, to]) this.#led(`${table}/${pid}`, must(node, 'node'), atMs);
    }
    for (const { table, pid, node } of leaders) this.#led(`${table}/${pid}`, node, performance.now());
    this.#toldMs = askedMs;
  }

  #led(partition: string, node: number, lastMs: number): void {
    const history = this.#leaders.get(partition) ?? [];
    this.#leaders.set(partition, history);
    const last = history.at(-1);
    if (last?.node === node) last.lastMs = lastMs;
    else history.push({ node, lastMs });
  }

  /** Judged a little later: whom it hit is often known only then. */
  failed(statement: FailedStatement): void {
    this.#failed.push(statement);
  }

  /** `all`: also what may turn out later to have met a fault. */
  async judgeFailures(all = false): Promise<void> {
    // Who led meanwhile is known when the manager has answered since: a change of leader may have been its
    // last work.
    const due = all ? Number.POSITIVE_INFINITY : Math.min(performance.now() - AFTERMATH_MS, this.#toldMs);
    const ripe = this.#failed.filter((f) => f.endedMs < due);
    this.#failed = this.#failed.filter((f) => !ripe.includes(f));
    for (const failed of ripe) await this.#judge(failed);
  }

  /** Fails the run unless the statement ran through or on a node that was disturbed meanwhile. */
  async #judge(failed: FailedStatement): Promise<void> {
    const pids = await failed.pids().catch(() => null);
    const path = new Set([failed.through, ...this.#leadersBetween(failed, pids)]);
    if (this.disturbedBetween(failed.beganMs, failed.endedMs, path)) return this.count('excused failure');
    const where = `${failed.table} ${pids?.join(',') ?? 'all'} led by ${[...path].slice(1).join(',')}`;
    this.find(`${failed.what} through node ${failed.through} (${where}) failed: ${failed.message}`);
  }

  #leadersBetween({ table, beganMs }: FailedStatement, pids: readonly number[] | null): number[] {
    const keys = pids
      ? pids.map((pid) => `${table}/${pid}`)
      : [...this.#leaders.keys()].filter((k) => k.startsWith(`${table}/`));
    return keys.flatMap((key) =>
      (this.#leaders.get(key) ?? []).filter((l) => l.lastMs >= beganMs - LED_BEFORE_MS).map((l) => l.node),
    );
  }
}
