import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { percentile } from '../src/local/histogram.ts';
import type { LocalCluster } from '../src/local/local-cluster.ts';
import { childrenOf, isAlive } from '../src/local/processes.ts';
import { type Benchmark, type Figure, seconds } from './benchmark.ts';
import { onCluster } from './loaded-cluster.ts';

const NODES = 4;
const PARTITIONS = 8;
const REPLICAS = 3;
/** The manager is not failed over to anybody: its node stays. */
const MANAGER = 1;
const KEYS = 400_000;
const STATEMENT_MS = 1_000;
const PAUSE_MS = 10;
const LOAD_MS = 1_500;
const BACK_MS = 60_000;
const REST_MS = 120_000;
const TABLE_SQL = 'CREATE TABLE acct (id bigint PRIMARY KEY, note text)';

const KILLS = [
  { what: 'process and PostgreSQL', times: 50, process: true, postgres: true },
  { what: 'PostgreSQL alone', times: 10, process: false, postgres: true },
  { what: 'process alone', times: 10, process: true, postgres: false },
] as const;
type Kill = (typeof KILLS)[number];

/**
 * How long writers wait when the leader of their partition dies, and whether anything acknowledged is lost.
 */
export const failover: Benchmark = {
  name: 'failover',
  about: `kill -9 of a node that leads, under one writer per partition through the other nodes; ${NODES} nodes, ${PARTITIONS} partitions × ${REPLICAS} replicas, durability quorum; from the kill to the first write that began when the server was gone and was acknowledged, on the last of the partitions that the node led`,
  run: async (note) =>
    await onCluster(NODES, async (cluster) => {
      const { operation } = await cluster.admin({
        do: 'table-create',
        sql: TABLE_SQL,
        partitions: PARTITIONS,
        replicas: REPLICAS,
      });
      await cluster.waitForOperation(operation);
      const writers = await Writers.prepare(cluster);
      const figures: Figure[] = [];
      for (const kill of KILLS) {
        const outages: Outage[] = [];
        for (let round = 0; round < kill.times; round++)
          outages.push(await killOnce(cluster, writers, kill, round, note));
        const decided = outages.flatMap((o) => (o.decidedMs === null ? [] : [o.decidedMs]));
        figures.push({ what: `kill of ${kill.what} (${outages.length})`, value: spread(outages.map((o) => o.waitMs)) });
        figures.push({
          what: `of these failed over (${decided.length}): until that was decided`,
          value: decided.length === 0 ? '-' : spread(decided),
        });
      }
      return [...figures, ...(await writers.proof())];
    }),
};

/** How long the last of its partitions waited; when a failover was decided, null where there was none. */
interface Outage {
  readonly waitMs: number;
  readonly decidedMs: number | null;
}

async function killOnce(
  cluster: LocalCluster,
  writers: Writers,
  kill: Kill,
  round: number,
  note: (text: string) => void,
): Promise<Outage> {
  const victim = await aLeader(cluster, round);
  const led = (await leaders(cluster)).filter((r) => r.node === victim).map((r) => r.pid);
  writers.start(cluster.nodes.map((n) => n.id).filter((id) => id !== victim));
  await sleep(LOAD_MS);
  const server = kill.postgres ? backendsOf(cluster, victim) : [];
  const killedMs = performance.now();
  const killedAt = Date.now();
  const died = kill.process ? cluster.node(victim).kill() : Promise.resolve();
  if (kill.postgres) cluster.node(victim).killPostgres();
  // Backends outlive the postmaster by a moment, and what they answer in it counts for nothing.
  while (server.some(isAlive)) await sleep(1);
  const deadMs = kill.postgres ? performance.now() : killedMs;
  const waits = await Promise.all(
    led.map(async (pid) => (await writers.firstSince(pid, deadMs, killedMs + BACK_MS)) - killedMs),
  );
  await died;
  if (kill.process) await cluster.node(victim).restart();
  await untilAtRest(cluster);
  await writers.stop();
  const operations = await cluster.admin({ do: 'op-ls', all: true }, { node: MANAGER });
  const failedOver = operations.find((o) => o.kind === 'failover' && Date.parse(o.createdAt) >= killedAt);
  const decidedMs = failedOver ? Date.parse(failedOver.createdAt) - killedAt : null;
  const waitMs = Math.max(...waits);
  const decision = decidedMs === null ? 'no failover' : `decided after ${seconds(decidedMs)}`;
  note(`${kill.what}, node ${victim} with ${led.length} leaders: ${seconds(waitMs)}, ${decision}`);
  return { waitMs, decidedMs };
}

/** The postmaster and its children (Linux). */
function backendsOf(cluster: LocalCluster, node: number): number[] {
  const postmaster = cluster.node(node).postgresProcessId;
  if (postmaster === null) throw new Error(`the server of node ${node} does not run`);
  return [postmaster, ...childrenOf(postmaster)];
}

async function leaders(cluster: LocalCluster) {
  return (await cluster.admin({ do: 'partition-ls' }, { node: MANAGER })).filter((r) => r.role === 'leader');
}

/** Nodes but the manager's take turns; one that leads nothing is passed over. */
async function aLeader(cluster: LocalCluster, round: number): Promise<number> {
  const led = await leaders(cluster);
  const able = cluster.nodes.map((n) => n.id).filter((id) => id !== MANAGER && led.some((r) => r.node === id));
  const node = able[round % able.length];
  if (node === undefined) throw new Error('nobody but the manager leads anything');
  return node;
}

/** Every node is live, every replica ready, nothing under way. */
async function untilAtRest(cluster: LocalCluster): Promise<void> {
  const untilMs = performance.now() + REST_MS;
  for (;;) {
    const [nodes, partitions, operations] = await Promise.all([
      cluster.admin({ do: 'node-status' }, { node: MANAGER }),
      cluster.admin({ do: 'partition-ls' }, { node: MANAGER }),
      cluster.admin({ do: 'op-ls' }, { node: MANAGER }),
    ]);
    const isAtRest =
      nodes.every((n) => n.isLive) &&
      partitions.every((r) => r.state === 'ready') &&
      operations.every((o) => o.endedAt !== null);
    const leads = new Set(partitions.filter((r) => r.role === 'leader').map((r) => r.node));
    // Leaders come back by themselves.
    if (isAtRest && leads.size === NODES) return;
    if (performance.now() > untilMs) throw new Error(`the cluster is not at rest after ${REST_MS / 1000} s`);
    await sleep(200);
  }
}

interface Acknowledged {
  readonly key: number;
  readonly beganMs: number;
  readonly atMs: number;
}

/**
 * One per partition, each on new keys of its own, through all nodes it is given. What was acknowledged is
 * kept.
 */
class Writers {
  readonly #cluster: LocalCluster;
  readonly #keys: ReadonlyMap<number, number[]>;
  readonly #acknowledged = new Map<number, Acknowledged[]>();
  #failed = 0;
  #running = false;
  #workers: Promise<void>[] = [];
  #pools: pg.Pool[] = [];

  private constructor(cluster: LocalCluster, keys: ReadonlyMap<number, number[]>) {
    this.#cluster = cluster;
    this.#keys = keys;
  }

  static async prepare(cluster: LocalCluster): Promise<Writers> {
    const { rows } = await cluster.postgres(MANAGER).query<{ pid: number; keys: string[] }>(
      `SELECT pid, array_agg(k ORDER BY k) AS keys FROM generate_series(1::bigint, $1) k, generate_series(0, $2::int) pid
        WHERE satisfies_hash_partition('acct'::regclass, $3, pid, k) GROUP BY pid`,
      [KEYS, PARTITIONS - 1, PARTITIONS],
    );
    return new Writers(cluster, new Map(rows.map((r) => [r.pid, r.keys.map(Number)])));
  }

  start(nodes: readonly number[]): void {
    this.#running = true;
    this.#pools = nodes.map((id) => openPool(Number(this.#cluster.node(id).address.split(':')[1])));
    this.#workers = [...this.#keys.keys()].map((pid) => this.#write(pid));
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#workers);
    await Promise.all(this.#pools.map((pool) => pool.end()));
  }

  /** When the first write of the partition was acknowledged that began after a moment. */
  async firstSince(pid: number, sinceMs: number, untilMs: number): Promise<number> {
    for (;;) {
      const first = this.#acknowledged.get(pid)?.find((w) => w.beganMs >= sinceMs);
      if (first) return first.atMs;
      if (performance.now() > untilMs)
        throw new Error(`no write of partition ${pid} was acknowledged for ${BACK_MS / 1000} s`);
      await sleep(5);
    }
  }

  /** What was acknowledged is looked for through every node. */
  async proof(): Promise<Figure[]> {
    const all = [...this.#acknowledged.values()].flat();
    let lost = 0;
    for (const { id } of this.#cluster.nodes) {
      const { rows } = await this.#cluster.postgres(id).query<{ id: string }>('SELECT id FROM acct');
      const found = new Set(rows.map((r) => Number(r.id)));
      lost = Math.max(lost, all.filter((w) => !found.has(w.key)).length);
    }
    return [
      { what: 'writes acknowledged', value: String(all.length) },
      { what: 'of these lost', value: String(lost) },
      { what: 'statements that failed meanwhile', value: String(this.#failed) },
    ];
  }

  async #write(pid: number): Promise<void> {
    const done = this.#acknowledged.get(pid) ?? [];
    this.#acknowledged.set(pid, done);
    for (let turn = pid; this.#running; turn++) {
      const key = this.#keys.get(pid)?.pop();
      const pool = this.#pools[turn % this.#pools.length];
      if (key === undefined || !pool) throw new Error(`partition ${pid} has no keys left`);
      const beganMs = performance.now();
      await pool.query('INSERT INTO acct VALUES ($1, $2)', [key, 'written']).then(
        () => done.push({ key, beganMs, atMs: performance.now() }),
        () => {
          this.#failed += 1;
        },
      );
      await sleep(PAUSE_MS);
    }
  }
}

function openPool(port: number): pg.Pool {
  const pool = new pg.Pool({
    host: '127.0.0.1',
    port,
    user: 'tide',
    database: 'tide',
    max: PARTITIONS,
    connectionTimeoutMillis: STATEMENT_MS,
    query_timeout: STATEMENT_MS,
  });
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
}

function spread(values: readonly number[]): string {
  const [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1].map((share) => seconds(percentile(values, share)));
  return `p50 ${p50}, p90 ${p90}, p99 ${p99}, max ${max}`;
}
