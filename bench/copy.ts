import { pipeline } from 'node:stream/promises';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import type { LocalCluster } from '../src/local/local-cluster.ts';
import { type Benchmark, median, mib, seconds } from './benchmark.ts';
import { onCluster } from './loaded-cluster.ts';

const ROWS = 1_000_000;
const ROUNDS = 3;

/** What a replica's copy costs over the least that PostgreSQL can do: rows through a pipe, then the index. */
export const copy: Benchmark = {
  name: 'copy',
  about: `add-replica of one partition of ${ROWS.toLocaleString('en-US')} rows against a raw binary COPY pipe and the primary key's build, on the same two servers, in turn, median of ${ROUNDS}`,
  run: async (note) =>
    await onCluster(3, async (cluster) => {
      await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'false' });
      const { tid, leader, free } = await makePartition(cluster);
      note('loaded');
      const bytes = await partitionBytes(cluster, leader, tid);
      const added: number[] = [];
      const raw: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        raw.push(await rawCopy(cluster, leader, free, tid));
        added.push(await addReplica(cluster, free));
        note(`round ${round + 1} of ${ROUNDS}`);
      }
      return [
        { what: 'bytes of the partition, with its index', value: mib(bytes) },
        { what: 'raw: COPY pipe and primary key', value: seconds(median(raw)) },
        { what: 'add-replica, from its start to ready', value: seconds(median(added)) },
        { what: 'ratio', value: (median(added) / median(raw)).toFixed(2) },
      ];
    }),
};

async function makePartition(cluster: LocalCluster): Promise<{ tid: number; leader: number; free: number }> {
  const { operation, tid } = await cluster.admin({
    do: 'table-create',
    sql: 'CREATE TABLE big (id bigint PRIMARY KEY, owner text NOT NULL, amount numeric NOT NULL, note text NOT NULL)',
    partitions: 1,
    replicas: 2,
  });
  await cluster.waitForOperation(operation);
  const rows = await cluster.admin({ do: 'partition-ls', table: 'big' });
  const leader = rows.find((r) => r.role === 'leader')?.node;
  const free = cluster.nodes.find((n) => rows.every((r) => r.node !== n.id))?.id;
  if (leader === undefined || free === undefined) throw new Error('no leader, or no node without a replica');
  await cluster
    .sql(leader)
    .query(
      `INSERT INTO big SELECT i, 'owner ' || i, i * 0.01, repeat(md5(i::text), 3) FROM generate_series(1, ${ROWS}) i`,
    );
  return { tid, leader, free };
}

async function partitionBytes(cluster: LocalCluster, leader: number, tid: number): Promise<number> {
  const { rows } = await cluster
    .manager(leader)
    .query<{ bytes: string }>(`SELECT pg_total_relation_size('tide_data.t${tid}_p0') AS bytes`);
  return Number(rows[0]?.bytes);
}

/** Milliseconds. The table is one that the cluster does not know of. */
async function rawCopy(cluster: LocalCluster, source: number, target: number, tid: number): Promise<number> {
  const from = await cluster.manager(source).connect();
  const to = await cluster.manager(target).connect();
  try {
    await to.query(
      'CREATE TABLE public.raw (id bigint NOT NULL, owner text NOT NULL, amount numeric NOT NULL, note text NOT NULL)',
    );
    const begin = performance.now();
    const out = from.query(copyTo(`COPY tide_data.t${tid}_p0 TO STDOUT (FORMAT binary)`));
    await pipeline(out, to.query(copyFrom('COPY public.raw FROM STDIN (FORMAT binary)')));
    await to.query('ALTER TABLE public.raw ADD PRIMARY KEY (id)');
    return performance.now() - begin;
  } finally {
    await to.query('DROP TABLE IF EXISTS public.raw').finally(() => {
      from.release();
      to.release();
    });
  }
}

/** Milliseconds, by the operation's own times; the replica is removed again. */
async function addReplica(cluster: LocalCluster, node: number): Promise<number> {
  const added = await cluster.admin({ do: 'partition-add-replica', table: 'big', pids: [0], node });
  let elapsedMs = 0;
  for (const id of added.operations) {
    const { startedAt, endedAt } = await cluster.waitForOperation(id);
    if (startedAt === null || endedAt === null) throw new Error('an operation that is done has no times');
    elapsedMs += Date.parse(endedAt) - Date.parse(startedAt);
  }
  const removed = await cluster.admin({ do: 'partition-del-replica', table: 'big', pids: [0], node });
  for (const id of removed.operations) await cluster.waitForOperation(id);
  return elapsedMs;
}
