import { percentile } from '../src/local/histogram.ts';
import type { LocalCluster } from '../src/local/local-cluster.ts';
import { type Benchmark, type Figure, ms } from './benchmark.ts';
import { onCluster } from './loaded-cluster.ts';
import { onPhysicalStandby } from './physical-standby.ts';

const CLIENTS = 4;
const WARM_UP_MS = 1_000;
const RUN_MS = 6_000;
const ROUNDS = 2;
const TABLE_SQL = 'CREATE TABLE acct (id bigint PRIMARY KEY, amount bigint NOT NULL)';
const ROWS = 10_000;

type Pool = ReturnType<LocalCluster['postgres']>;

/** What waiting for a follower costs a commit. */
export const commits: Benchmark = {
  name: 'commits',
  about: `${CLIENTS} clients, each one row per commit (UPDATE by key) for ${RUN_MS / 1000} s, at the leader of the only partition, which has three replicas; beside it plain PostgreSQL with two synchronous physical standbys (ANY 1); the best of ${ROUNDS}`,
  run: async (note) => {
    const quorum = await onCluster(3, async (cluster) => {
      const pool = await singlePartition(cluster);
      const kept = await bestOf(() => load(pool));
      note('durability quorum');
      await cluster.admin({ do: 'setting-set', key: 'durability', value: 'async' });
      const loose = await bestOf(() => load(pool));
      note('durability async');
      return { kept, loose };
    });
    const plain = await onPhysicalStandby(async (primary) => {
      await primary.pool.query(TABLE_SQL);
      await fill(primary.pool);
      const synchronous = await bestOf(() => load(primary.pool));
      note('plain, synchronous');
      await primary.waitForNobody();
      const asynchronous = await bestOf(() => load(primary.pool));
      note('plain, asynchronous');
      return { synchronous, asynchronous };
    });
    return [
      figure('pgtide, durability quorum', quorum.kept),
      figure('pgtide, durability async', quorum.loose),
      figure('plain PostgreSQL, two physical standbys, synchronous', plain.synchronous),
      figure('plain PostgreSQL, the same, asynchronous', plain.asynchronous),
      ratio('commits/s, quorum / async', quorum.kept, quorum.loose),
      ratio('commits/s, quorum / plain synchronous', quorum.kept, plain.synchronous),
      ratio('commits/s, async / plain asynchronous', quorum.loose, plain.asynchronous),
    ];
  },
};

async function singlePartition(cluster: LocalCluster): Promise<Pool> {
  const { operation } = await cluster.admin({ do: 'table-create', sql: TABLE_SQL, partitions: 1, replicas: 3 });
  await cluster.waitForOperation(operation);
  const leader = (await cluster.admin({ do: 'partition-ls' })).find((r) => r.role === 'leader')?.node;
  if (leader === undefined) throw new Error('nobody leads');
  await fill(cluster.postgres(leader));
  return cluster.postgres(leader);
}

async function fill(pool: Pool): Promise<void> {
  await pool.query(`INSERT INTO acct SELECT i, 0 FROM generate_series(1, ${ROWS}) i`);
}

/** Milliseconds of every commit, by one run. */
async function load(pool: Pool): Promise<number[]> {
  const took: number[] = [];
  const beganMs = performance.now();
  const client = async () => {
    for (;;) {
      const atMs = performance.now();
      if (atMs - beganMs > WARM_UP_MS + RUN_MS) return;
      await pool.query('UPDATE acct SET amount = amount + 1 WHERE id = $1', [1 + Math.floor(Math.random() * ROWS)]);
      if (atMs - beganMs > WARM_UP_MS) took.push(performance.now() - atMs);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  return took;
}

async function bestOf(run: () => Promise<number[]>): Promise<number[]> {
  let best: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const took = await run();
    if (took.length > best.length) best = took;
  }
  return best;
}

function ratio(what: string, took: readonly number[], baseline: readonly number[]): Figure {
  return { what, value: (took.length / baseline.length).toFixed(2) };
}

function figure(what: string, took: readonly number[]): Figure {
  const rate = Math.round(took.length / (RUN_MS / 1000));
  const [p50, p99] = [0.5, 0.99].map((share) => ms(percentile(took, share)));
  return { what, value: `${rate} commits/s, p50 ${p50}, p99 ${p99}` };
}
