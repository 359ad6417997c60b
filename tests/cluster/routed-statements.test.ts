import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { hold } from '../support/operations.ts';
import { eventually, expectReplicasEqual, holdersOf, keyIn, startNodes } from './support/proof.ts';
import { login } from './support/routed.ts';

/**
 * Statements of one row, or of one key, are executed where their rows are: as one PostgreSQL would, also
 * while partitions move, and what cannot be executed there goes home.
 */

const PARTITIONS = 8;
const KEYS = 40;
const COLUMNS = '(id bigint PRIMARY KEY, n int NOT NULL, t text)';

let cluster: LocalCluster;
let nodes: number[];
let tid: number;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  tid = (await createTable(cluster, `CREATE TABLE acct ${COLUMNS}`, { partitions: PARTITIONS, replicas: 2 })).tid;
  // The same rows in a table of one server.
  await cluster.sql(1).query(`CREATE SCHEMA one; CREATE TABLE one.acct ${COLUMNS}`);
});
afterAll(() => cluster?.close());

/** Statements that came to the servers' hinges for gateways so far, by what PostgreSQL counts. */
async function elsewhere(): Promise<number> {
  let count = 0;
  for (const node of nodes) {
    const { rows } = await cluster
      .manager(node)
      .query(`SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'tide gateway'`);
    count += rows[0].n;
  }
  return count;
}

/** What is there after the first statements, which go home, has been made. */
async function untilRouted(client: pg.Client): Promise<void> {
  for (let key = 0; (await elsewhere()) < nodes.length * 2; key++) {
    await client.query({ name: 'warm', text: 'SELECT n FROM acct WHERE id = $1', values: [key] });
    await client.query({ name: 'warm-up', text: 'UPDATE acct SET n = n WHERE id = $1', values: [key] });
    if (key > 20_000) throw new Error('no statement is executed elsewhere');
  }
}

const STATEMENTS: readonly { text: string; values: (key: number, n: number) => unknown[] }[] = [
  { text: 'SELECT * FROM acct WHERE id = $1', values: (key) => [key] },
  { text: 'SELECT n + $2 AS sum, upper(t) FROM acct WHERE id = $1', values: (key, n) => [key, n] },
  { text: 'SELECT count(*), max(n) FROM acct WHERE id = $1 AND n > $2', values: (key, n) => [key, n] },
  { text: 'SELECT n / $2 FROM acct WHERE id = $1', values: (key, n) => [key, n % 3] },
  { text: 'INSERT INTO acct VALUES ($1, $2, $3)', values: (key, n) => [key, n, `row ${n}`] },
  { text: 'INSERT INTO acct (t, id, n) VALUES ($1, $2, 7) RETURNING *', values: (key, n) => [`t${n}`, key] },
  { text: 'INSERT INTO acct (id, n) VALUES ($1, NULL)', values: (key) => [key] },
  { text: 'UPDATE acct SET n = n + $2 WHERE id = $1 RETURNING n', values: (key, n) => [key, n] },
  { text: 'UPDATE acct SET t = t || $2 WHERE id = $1', values: (key, n) => [key, `,${n % 10}`] },
  { text: 'DELETE FROM acct WHERE id = $1 AND n % 2 = 0 RETURNING id', values: (key) => [key] },
];

interface Outcome {
  readonly rows?: unknown[];
  readonly count?: number | null;
  readonly command?: string;
  readonly fields?: unknown[];
  readonly code?: string;
}

async function outcomeOf(client: pg.Client, text: string, values: unknown[], name?: string): Promise<Outcome> {
  try {
    const { rows, rowCount, command, fields } = await client.query({ text, values, ...(name ? { name } : {}) });
    return { rows, count: rowCount, command, fields: fields.map((f) => [f.name, f.dataTypeID, f.columnID]) };
  } catch (error) {
    return { code: (error as { code: string }).code };
  }
}

/** Executes the same on both tables, and gives what differed. */
async function compare(rounds: number, seed: number): Promise<{ different: unknown[]; statements: number }> {
  const routed = await Promise.all(nodes.map((node) => login(cluster, node)));
  const plain = await login(cluster, 1);
  const different: unknown[] = [];
  let state = seed;
  const next = (below: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
  for (let i = 0; i < rounds; i++) {
    const { text, values } = must(STATEMENTS[next(STATEMENTS.length)], 'statement');
    const given = values(next(KEYS), next(1_000));
    const name = next(2) === 0 ? `s${STATEMENTS.findIndex((s) => s.text === text)}` : undefined;
    const client = must(routed[next(routed.length)], 'client');
    const got = await outcomeOf(client, text, given, name);
    const wanted = await outcomeOf(plain, text.replace('acct', 'one.acct'), given);
    if (JSON.stringify(got) !== JSON.stringify(wanted)) different.push({ text, given, got, wanted });
  }
  await Promise.all([...routed, plain].map((client) => client.end()));
  return { different, statements: rounds };
}

async function expectSameRows(): Promise<void> {
  const all = (table: string) => cluster.sql(1).query(`SELECT * FROM ${table} ORDER BY id`);
  expect((await all('acct')).rows).toEqual((await all('one.acct')).rows);
}

describe('statements that are executed where their rows are', () => {
  test('answer and change what one server would', async () => {
    const client = await login(cluster, 1);
    await untilRouted(client);
    await client.end();
    const { different } = await compare(1_500, 1);
    expect(different).toEqual([]);
    await expectSameRows();
  });

  test('also while partitions change their leaders and move', async () => {
    let isOver = false;
    let moves = 0;
    const moving = (async () => {
      for (let i = 0; !isOver; i++) {
        const { leader, followers } = await holdersOf(cluster, 'acct', i % PARTITIONS);
        const to = must(i % 2 === 0 ? followers[0] : nodes.find((n) => n !== leader && !followers.includes(n)), 'node');
        const { operations } = await cluster.admin(
          i % 2 === 0
            ? { do: 'partition-change-leader', table: 'acct', pid: i % PARTITIONS, to }
            : { do: 'partition-migrate', table: 'acct', pids: [i % PARTITIONS], from: must(leader, 'leader'), to },
        );
        for (const id of operations) await cluster.waitForOperation(id);
        moves += 1;
      }
    })();
    const { different } = await compare(2_500, 2);
    isOver = true;
    await moving;
    expect(different).toEqual([]);
    expect(moves).toBeGreaterThan(2);
    await expectSameRows();
    await expectReplicasEqual(cluster);
  });

  test('a row that is waited for: a request to cancel ends the statement, and nobody else’s', async () => {
    const pid = 0;
    const leader = must((await holdersOf(cluster, 'acct', pid)).leader, 'leader');
    const home = must(
      nodes.find((n) => n !== leader),
      'node',
    );
    const key = await keyIn(cluster, { tid, table: 'acct' }, PARTITIONS, pid, 10_000);
    await cluster.sql(home).query('INSERT INTO acct VALUES ($1, 0)', [key]);
    const client = await login(cluster, home);
    await untilRouted(client);
    const update = { name: 'u', text: 'UPDATE acct SET n = n + 1 WHERE id = $1', values: [key] };
    await client.query(update);
    const holder = await hold(cluster.node(leader).postgresPort, `UPDATE acct SET n = 10 WHERE id = ${key}`, 'tide');
    const waiting = client.query(update);
    const isWaiting = `SELECT count(*)::int AS n FROM pg_stat_activity
      WHERE application_name = 'tide gateway' AND wait_event_type = 'Lock'`;
    await eventually(async () => expect((await cluster.manager(leader).query(isWaiting)).rows).toEqual([{ n: 1 }]));
    const cancelled = expect(waiting).rejects.toMatchObject({ code: '57014' });
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
    const canceller = new pg.Client({ connectionString: `postgresql://tide@${cluster.node(home).address}/tide` });
    (canceller as unknown as { cancel(c: pg.Client, q: unknown): void }).cancel(
      client,
      (client as unknown as { activeQuery: unknown }).activeQuery,
    );
    expect(processID + secretKey).not.toBe(0);
    await cancelled;
    await holder.query('ROLLBACK');
    await holder.end();
    expect((await client.query({ name: 'r', text: 'SELECT n FROM acct WHERE id = $1', values: [key] })).rows).toEqual([
      { n: 1 },
    ]);
    await client.end();
  });

  test('a session that is no longer as it began stays at home', async () => {
    const client = await login(cluster, 2);
    await untilRouted(client);
    await client.query('CREATE TEMPORARY TABLE acct (id bigint PRIMARY KEY, n int)');
    await client.query('INSERT INTO acct VALUES (1, 4711)');
    const mine = { name: 'mine', text: 'SELECT n FROM acct WHERE id = $1', values: [1] };
    expect((await client.query(mine)).rows).toEqual([{ n: 4711 }]);
    await client.end();
    const other = await login(cluster, 2);
    await untilRouted(other);
    await other.query("SELECT set_config('statement_timeout', '300ms', false)");
    const key = await keyIn(cluster, { tid, table: 'acct' }, PARTITIONS, 1, 20_000);
    await cluster.sql(1).query('INSERT INTO acct VALUES ($1, 0)', [key]);
    const leader = must((await holdersOf(cluster, 'acct', 1)).leader, 'leader');
    const holder = await hold(cluster.node(leader).postgresPort, `UPDATE acct SET n = 10 WHERE id = ${key}`, 'tide');
    const late = { name: 'late', text: 'UPDATE acct SET n = 1 WHERE id = $1', values: [key] };
    await expect(other.query(late)).rejects.toMatchObject({ code: '57014' });
    await holder.query('ROLLBACK');
    await holder.end();
    await other.end();
  });

  test('sees in a transaction what the transaction has done, and after it what it has left', async () => {
    const client = await login(cluster, 3);
    await untilRouted(client);
    const read = (id: number) => client.query({ name: 'read', text: 'SELECT n FROM acct WHERE id = $1', values: [id] });
    await client.query('BEGIN');
    for (let id = 30_000; id < 30_010; id++)
      await client.query({ name: 'add', text: 'INSERT INTO acct VALUES ($1, 1)', values: [id] });
    for (let id = 30_000; id < 30_010; id++) expect((await read(id)).rows).toEqual([{ n: 1 }]);
    await client.query('ROLLBACK');
    for (let id = 30_000; id < 30_010; id++) expect((await read(id)).rows).toEqual([]);
    await client.end();
  });
});
