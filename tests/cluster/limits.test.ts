import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PartitionRow } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import { TIDE_MANAGER } from '../../src/postgres/config.ts';
import { whatIsWrong } from '../support/checks.ts';
import { createTable, LocalCluster, waitForAll } from '../support/cluster.ts';
import { inSession } from '../support/session.ts';

/**
 * What operators set for their clients ends their clients' statements, and nothing that pgtide does for
 * itself.
 */

const LIMIT_MS = 250;
const LIMITS = [
  'statement_timeout',
  'lock_timeout',
  'transaction_timeout',
  'idle_in_transaction_session_timeout',
  'idle_session_timeout',
];
const unlimited = (but?: string) =>
  [
    ...LIMITS.filter((name) => name !== but).map((name) => `-c ${name}=0`),
    '-c default_transaction_read_only=off',
    '-c default_transaction_isolation=read\\ committed',
  ].join(' ');
/** How long whatever is to outlive the limits lasts. */
const LONG_MS = 3 * LIMIT_MS;
/** 94 MiB that are sent as they are, and kept compressed: copied in more than a limit on any machine. */
const [WIDE_ROWS, WIDE_BYTES] = [6_000, 16_384];

let cluster: LocalCluster;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  await cluster.addNode();
  await limit(1, system);
});

afterAll(async () => {
  await cluster?.close();
});

const system = (name: string, value: string) => `ALTER SYSTEM SET ${name} = '${value}'`;
const database = (name: string, value: string) => `ALTER DATABASE tide SET ${name} = '${value}'`;
const role = (name: string, value: string) => `ALTER ROLE tide SET ${name} = '${value}'`;
type Setter = typeof system;

/** A session of a client that is bound by nothing, or by one limit as it was set. */
async function free<T>(node: number, work: (client: pg.Client) => Promise<T>, but?: string, user = 'tide'): Promise<T> {
  const { host, postgresPort: port } = cluster.node(node);
  return inSession({ host, port, user, database: 'tide', options: unlimited(but) }, work);
}

/** A session of the operator's, who may look at what others do and set what binds them. */
const asManager = <T>(node: number, work: (client: pg.Client) => Promise<T>) =>
  free(node, work, undefined, TIDE_MANAGER);

/** SQLSTATE of what a statement through a node ends with, where one limit is in force. */
async function endOf(node: number, but: string, sql: string): Promise<string | undefined> {
  return free(node, (client) => client.query(sql), but).then(
    () => undefined,
    (error: pg.DatabaseError) => error.code,
  );
}

async function limit(node: number, set: Setter, value = `${LIMIT_MS}ms`): Promise<void> {
  await asManager(node, async (client) => {
    for (const name of LIMITS) await client.query(set(name, value));
    // Others that a cluster for reading, or a careful operator, may have.
    await client.query(set('default_transaction_read_only', value === '0' ? 'off' : 'on'));
    await client.query(set('default_transaction_isolation', value === '0' ? 'read committed' : 'serializable'));
    await client.query('SELECT pg_reload_conf()');
  });
}

async function leaderOf(table: string, pid: number): Promise<number> {
  const rows: PartitionRow[] = await cluster.admin({ do: 'partition-ls', table });
  return must(
    rows.find((r) => r.pid === pid && r.role === 'leader'),
    `leader of ${table} ${pid}`,
  ).node;
}

/** Errors of apply workers and table copies, by node. */
async function replicationErrors(): Promise<string[]> {
  const wrong: string[] = [];
  for (const { id } of cluster.nodes.filter((n) => n.isRunning)) {
    const rows = await free(id, (client) =>
      client.query(
        'SELECT subname, apply_error_count::int AS a, sync_error_count::int AS s FROM pg_stat_subscription_stats',
      ),
    );
    for (const { subname, a, s } of rows.rows)
      if (a + s > 0) wrong.push(`node ${id}: ${subname} failed ${a + s} times`);
  }
  return wrong;
}

/** How long a copy of the table's rows was seen on a node, ms, until `isOver`. */
async function copying(node: number, isOver: () => boolean): Promise<number> {
  return asManager(node, async (client) => {
    let [first, last] = [0, 0];
    while (!isOver()) {
      const { rows } = await client.query(
        "SELECT FROM pg_stat_progress_copy WHERE relid::regclass::text LIKE 'tide_data.%'",
      );
      if (rows.length > 0) {
        last = performance.now();
        first ||= last;
      }
      await sleep(20);
    }
    return last - first;
  });
}

/** Moves the wide table's only replica, and says for how long its rows were seen being copied, ms. */
async function moveWide(wanted?: number): Promise<number> {
  const from = await leaderOf('wide', 0);
  const to = wanted ?? (from === 2 ? 3 : 2);
  const { operations } = await cluster.admin({ do: 'partition-migrate', table: 'wide', pids: [0], from, to });
  let isOver = false;
  const moved = waitForAll(cluster, operations).finally(() => {
    isOver = true;
  });
  const [seenMs] = await Promise.all([copying(from, () => isOver), moved]);
  return seenMs;
}

/** A row that a node leads. */
async function ledBy(node: number): Promise<number> {
  const { rows } = await free(node, (client) =>
    client.query("SELECT min(id) AS id FROM acct WHERE tableoid::regclass::text LIKE 'tide_data.%'"),
  );
  return rows[0].id;
}

async function untilEqual<T>(look: () => Promise<T>, wanted: T): Promise<void> {
  await expect.poll(() => look().catch(() => null), { timeout: 60_000, interval: 200 }).toBe(wanted);
}

test('nodes join, a table is made, and a copy that outlasts every limit ends', async () => {
  for (const node of [2, 3]) {
    await cluster.addNode();
    await limit(node, system);
  }
  await createTable(cluster, 'CREATE TABLE wide (id int PRIMARY KEY, note text, body bytea)', {
    partitions: 1,
    replicas: 1,
  });
  await createTable(cluster, 'CREATE TABLE acct (id int PRIMARY KEY, note text)', { partitions: 6, replicas: 3 });
  await free(1, async (client) => {
    await client.query("INSERT INTO acct SELECT i, 'base' FROM generate_series(1, 600) i");
    await client.query(
      `INSERT INTO wide SELECT i, 'base', decode(repeat(md5(i::text), ${WIDE_BYTES / 16}), 'hex') FROM generate_series(1, ${WIDE_ROWS}) i`,
    );
  });
  expect(await moveWide()).toBeGreaterThan(LIMIT_MS);
  expect(await replicationErrors()).toEqual([]);
});

test('a client’s statement, its waiting and its idling end as was set', async () => {
  const row = await ledBy(2);
  const elsewhere = `SELECT pg_sleep(20) FROM acct WHERE id = ${row}`;
  for (const sql of ['SELECT pg_sleep(20)', elsewhere]) {
    expect(await endOf(1, 'statement_timeout', sql)).toBe('57014');
    expect(await endOf(1, 'transaction_timeout', sql)).toBe('25P04');
  }
  await free(2, async (holder) => {
    await holder.query(`BEGIN; UPDATE acct SET note = 'held' WHERE id = ${row}`);
    for (const node of [1, 2])
      expect(await endOf(node, 'lock_timeout', `UPDATE acct SET note = 'x' WHERE id = ${row}`)).toBe('55P03');
    await holder.query('ROLLBACK');
  });
  const idle = async (client: pg.Client, sql: string) => {
    const ended = new Promise((resolve) => client.once('error', resolve));
    await client.query(sql);
    return ended;
  };
  const inTransaction = await free(1, (client) => idle(client, 'BEGIN'), 'idle_in_transaction_session_timeout');
  expect(inTransaction).toMatchObject({ code: '25P03' });
  expect(await free(1, (client) => idle(client, 'SELECT 1'), 'idle_session_timeout')).toMatchObject({ code: '57P05' });
});

test('a client’s transaction that has no limits has none on other nodes', async () => {
  const row = await ledBy(2);
  await free(1, async (client) => {
    await client.query('BEGIN');
    await client.query(`UPDATE acct SET note = 'once' WHERE id = ${row}`);
    await sleep(LONG_MS);
    await client.query(`UPDATE acct SET note = 'twice' || pg_sleep(${LONG_MS / 1000}) WHERE id = ${row}`);
    await client.query('COMMIT');
  });
  await free(3, async (client) => {
    expect((await client.query(`SELECT note FROM acct WHERE id = ${row}`)).rows).toEqual([{ note: 'twice' }]);
  });
});

test('an apply worker waits for a lock for as long as that lasts', async () => {
  const row = await ledBy(1);
  const { rows } = await free(1, (client) =>
    client.query(`SELECT tableoid::regclass AS name FROM acct WHERE id = ${row}`),
  );
  const waited = await asManager(2, async (holder) => {
    await holder.query('BEGIN');
    await holder.query(`LOCK TABLE ${rows[0].name} IN SHARE MODE`);
    const written = free(1, (client) => client.query(`UPDATE acct SET note = 'applied' WHERE id = ${row}`));
    const untilMs = performance.now() + 20_000;
    const applying =
      "SELECT FROM pg_stat_activity WHERE backend_type LIKE 'logical replication%' AND wait_event_type = 'Lock'";
    while ((await holder.query(applying)).rowCount === 0 && performance.now() < untilMs) await sleep(10);
    await sleep(LONG_MS);
    const { rowCount } = await holder.query(applying);
    await holder.query('COMMIT');
    await written;
    return rowCount;
  });
  expect(waited).toBe(1);
  expect(await replicationErrors()).toEqual([]);
});

test('set for the database and for the role, with a move, a change of leader, a failover and a decommission', async () => {
  for (const { id } of cluster.nodes) {
    await limit(id, system, '0');
    await limit(id, database);
    await limit(id, role);
    await asManager(id, (client) => client.query('ALTER ROLE ALL SET temp_file_limit = 0'));
  }
  expect(await endOf(2, 'statement_timeout', 'SELECT pg_sleep(20)')).toBe('57014');
  expect(await moveWide()).toBeGreaterThan(LIMIT_MS);

  const to = (await leaderOf('acct', 0)) === 2 ? 3 : 2;
  const changed = await cluster.admin({ do: 'partition-change-leader', table: 'acct', pid: 0, to });
  await waitForAll(cluster, changed.operations);

  // What nobody else holds would not be served meanwhile.
  if ((await leaderOf('wide', 0)) === 3) await moveWide(2);
  await Promise.all([cluster.node(3).kill(), cluster.node(3).killPostgres()]);
  await untilEqual(
    async () =>
      (await cluster.admin({ do: 'partition-ls', table: 'acct' })).some((r) => r.role === 'leader' && r.node === 3),
    false,
  );
  await free(1, (client) => client.query("UPDATE acct SET note = 'survived' WHERE id = 1"));
  await cluster.node(3).restart();
  await untilEqual(async () => (await cluster.admin({ do: 'partition-ls' })).every((r) => r.state === 'ready'), true);

  await cluster.addNode();
  await limit(4, system);
  const left = await cluster.admin({ do: 'node-decommission', nodes: [2] });
  await waitForAll(cluster, [left.operation]);
  for (const { id } of cluster.nodes) for (const set of [system, database, role]) await limit(id, set, '0');
  expect(await whatIsWrong(cluster, [1, 3, 4])).toEqual([]);
  expect(await replicationErrors()).toEqual([]);
});
