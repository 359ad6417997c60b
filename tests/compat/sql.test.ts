import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTable, LocalCluster } from '../support/cluster.ts';

/**
 * What docs/sql.md says of how a distributed table differs from one of a single PostgreSQL: each row of it is
 * tried here.
 */

let cluster: LocalCluster;
/** Keys of rows that node 1 and node 2 lead, several of each. */
let local: number[];
let remote: number[];

const WAITED_MS = 400;
const ROWS = 3_000;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (let started = 0; started < 2; started++) await cluster.addNode();
  await createTable(
    cluster,
    'CREATE TABLE acct (id int PRIMARY KEY, grp int, v int CONSTRAINT v_small CHECK (v < 1000), note text)',
    { partitions: 4, replicas: 1 },
  );
  await cluster.sql(1).query(`INSERT INTO acct SELECT i, i % 10, 0, 'base' FROM generate_series(1, ${ROWS}) i`);
  const led = async (node: number) => {
    const { rows } = await cluster
      .sql(node)
      .query("SELECT id FROM acct WHERE tableoid::regclass::text LIKE 'tide_data.%' ORDER BY id LIMIT 20");
    return rows.map((r) => r.id);
  };
  [local, remote] = [await led(1), await led(2)];
});

afterAll(async () => {
  await cluster?.close();
});

/** A session at a node, ended whatever happens. */
async function at<T>(node: number, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await cluster.sql(node).connect();
  try {
    return await work(client);
  } finally {
    client.release(true);
  }
}

async function refusal(node: number, ...statements: string[]): Promise<pg.DatabaseError | null> {
  return at(node, async (client) => {
    for (const sql of statements) await client.query(sql);
    return null;
  }).catch((error: pg.DatabaseError) => error);
}

const one = async (node: number, sql: string) => Object.values((await cluster.sql(node).query(sql)).rows[0] ?? {})[0];

describe('what a row tells of itself', () => {
  test('xmin of a row that another node leads is 0', async () => {
    expect(await one(1, `SELECT xmin::text FROM acct WHERE id = ${remote[0]}`)).toBe('0');
    expect(await one(1, `SELECT xmin::text FROM acct WHERE id = ${local[0]}`)).not.toBe('0');
  });

  test('tableoid is the partition’s own table, here or elsewhere', async () => {
    expect(await one(1, `SELECT tableoid::regclass::text FROM acct WHERE id = ${remote[0]}`)).toMatch(/^tide_remote\./);
    expect(await one(1, `SELECT tableoid::regclass::text FROM acct WHERE id = ${local[0]}`)).toMatch(/^tide_data\./);
  });

  test('errors name the partition’s constraint; through another node only in their text', async () => {
    const here = await refusal(1, `INSERT INTO acct VALUES (${local[0]})`);
    expect(here).toMatchObject({ code: '23505', schema: 'tide_data', constraint: here?.table?.concat('_pkey') });
    const there = await refusal(1, `INSERT INTO acct VALUES (${remote[0]})`);
    expect(there).toMatchObject({ code: '23505', table: undefined, constraint: undefined });
    expect(there?.message).toMatch(/unique constraint "t\d+_p\d+_pkey"/);
    expect(await refusal(1, `UPDATE acct SET v = 5000 WHERE id = ${remote[0]}`)).toMatchObject({ code: '23514' });
  });
});

describe('refused', () => {
  const cases: [string, string, () => string[]][] = [
    ['ON CONFLICT with a column', '42P10', () => [`INSERT INTO acct VALUES (${local[0]}) ON CONFLICT (id) DO NOTHING`]],
    [
      'MERGE into a row of another node',
      '0A000',
      () => [
        `MERGE INTO acct USING (VALUES (${remote[0]})) x (i) ON acct.id = x.i WHEN MATCHED THEN UPDATE SET note = 'm'`,
      ],
    ],
    [
      'WHERE CURRENT OF, a row of another node',
      '24000',
      () => [
        'BEGIN',
        `DECLARE c CURSOR FOR SELECT * FROM acct WHERE id = ${remote[0]} FOR UPDATE`,
        'FETCH c',
        'UPDATE acct SET v = 1 WHERE CURRENT OF c',
      ],
    ],
    ['UPDATE of the key', 'TD003', () => [`UPDATE acct SET id = -1 WHERE id = ${local[0]}`]],
    [
      'PREPARE TRANSACTION after a row of another node',
      '0A000',
      () => ['BEGIN', `SELECT FROM acct WHERE id = ${remote[0]}`, "PREPARE TRANSACTION 'x'"],
    ],
    ['COPY of the table itself', '42809', () => ['COPY acct TO STDOUT']],
    ['a sequence of another node', '42P01', () => ["SELECT nextval('only_here')"]],
    ['a materialized view of another node', '42P01', () => ['SELECT FROM mat_here']],
  ];

  beforeAll(async () => {
    await cluster.sql(2).query('CREATE SEQUENCE only_here');
    await cluster.sql(2).query('CREATE MATERIALIZED VIEW mat_here AS SELECT count(*) FROM acct');
  });

  test.each(cases)('%s: %s', async (_, code, statements) => {
    expect(await refusal(1, ...statements())).toMatchObject({ code });
  });
});

test('TABLESAMPLE: rows of other nodes all come', async () => {
  const elsewhere = await one(1, "SELECT count(*)::int FROM acct WHERE tableoid::regclass::text LIKE 'tide_remote.%'");
  expect(await one(1, 'SELECT count(*)::int FROM acct TABLESAMPLE SYSTEM (0)')).toBe(elsewhere);
});

test('a cursor WITH HOLD, ON CONFLICT DO NOTHING and a join with a temporary table work', async () => {
  await at(1, async (client) => {
    await client.query('BEGIN; DECLARE h CURSOR WITH HOLD FOR SELECT id FROM acct ORDER BY id; COMMIT');
    expect((await client.query('FETCH 3 FROM h')).rows.map((r) => r.id)).toEqual([1, 2, 3]);
    await client.query('CREATE TEMP TABLE picked AS SELECT id FROM acct LIMIT 3');
    expect((await client.query('SELECT FROM acct JOIN picked USING (id)')).rowCount).toBe(3);
  });
  const again = await cluster
    .sql(1)
    .query(`INSERT INTO acct VALUES (${remote[0]}), (${local[0]}) ON CONFLICT DO NOTHING`);
  expect(again.rowCount).toBe(0);
});

test('VACUUM leaves what other nodes lead to them', async () => {
  const notices: string[] = [];
  await at(1, async (client) => {
    client.on('notice', (notice) => notices.push(notice.message ?? ''));
    await client.query('VACUUM acct');
  });
  expect(notices).toContainEqual(expect.stringMatching(/^skipping "t\d+_p\d+_n2"/));
});

describe('locks', () => {
  /** Runs `body` while a session at node 2 holds a row of node 2. */
  async function held(body: (row: number) => Promise<void>): Promise<void> {
    const row = remote[1] ?? 0;
    await at(2, async (holder) => {
      await holder.query('BEGIN');
      await holder.query(`UPDATE acct SET note = 'held' WHERE id = ${row}`);
      await body(row);
      await holder.query('ROLLBACK');
    });
  }

  test('SKIP LOCKED, NOWAIT and lock_timeout wait for a row of another node, and not for one of this node', async () => {
    await held(async (row) => {
      const bound = `SET statement_timeout = ${WAITED_MS}`;
      for (const how of ['SKIP LOCKED', 'NOWAIT'])
        expect(await refusal(1, bound, `SELECT FROM acct WHERE id = ${row} FOR UPDATE ${how}`)).toMatchObject({
          code: '57014',
        });
      const limited = [bound, 'SET lock_timeout = 50', `UPDATE acct SET v = 1 WHERE id = ${row}`];
      expect(await refusal(1, ...limited)).toMatchObject({ code: '57014' });
      expect(await refusal(2, ...limited)).toMatchObject({ code: '55P03' });
      expect(await refusal(2, `SELECT FROM acct WHERE id = ${row} FOR UPDATE NOWAIT`)).toMatchObject({ code: '55P03' });
    });
  });

  test('LOCK TABLE and advisory locks hold at their node only', async () => {
    await at(1, async (client) => {
      await client.query('BEGIN; LOCK TABLE acct IN EXCLUSIVE MODE; SELECT pg_advisory_xact_lock(7)');
      expect(await refusal(2, `UPDATE acct SET note = 'beside' WHERE id = ${remote[2]}`)).toBeNull();
      expect(await one(2, 'SELECT pg_try_advisory_lock(7)')).toBe(true);
      await client.query('ROLLBACK');
    });
  });

  test('NOTIFY reaches who listens at the same node', async () => {
    await at(2, async (client) => {
      const heard: string[] = [];
      client.on('notification', ({ payload }) => heard.push(payload ?? ''));
      await client.query('LISTEN news');
      await cluster.sql(1).query("NOTIFY news, 'from node 1'");
      await sleep(WAITED_MS);
      await cluster.sql(2).query("NOTIFY news, 'from node 2'");
      await expect.poll(() => heard, { timeout: 10_000 }).toEqual(['from node 2']);
    });
  });
});

describe('transactions', () => {
  test('a row of another node that somebody changed since: 40001, at READ COMMITTED too', async () => {
    await at(1, async (client) => {
      await client.query('BEGIN');
      await client.query(`SELECT FROM acct WHERE id = ${remote[3]}`);
      await cluster.sql(2).query(`UPDATE acct SET v = v + 1 WHERE id = ${remote[3]}`);
      await expect(client.query(`UPDATE acct SET v = v + 1 WHERE id = ${remote[3]}`)).rejects.toMatchObject({
        code: '40001',
      });
    });
  });

  test('REPEATABLE READ: a row that went from one node to another meanwhile is on neither', async () => {
    const [from, to] = [remote[4], local[4]];
    await at(1, async (reader) => {
      await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      const seen = async (id: number | undefined) =>
        (await reader.query(`SELECT FROM acct WHERE id = ${id} AND note = 'it'`)).rowCount;
      await cluster.sql(1).query(`UPDATE acct SET note = 'it' WHERE id = ${from}`);
      expect(await seen(to)).toBe(0);
      await at(1, async (mover) => {
        await mover.query('BEGIN');
        await mover.query(`DELETE FROM acct WHERE id = ${from}`);
        await mover.query(`UPDATE acct SET note = 'it' WHERE id = ${to}`);
        await mover.query('COMMIT');
      });
      expect([await seen(to), await seen(from)]).toEqual([0, 0]);
    });
  });

  test('SERIALIZABLE over two nodes lets a write skew through', async () => {
    const [a, b] = [local[5], remote[5]];
    const both = `SELECT sum(v)::int AS sum FROM acct WHERE id IN (${a}, ${b})`;
    await at(1, (first) =>
      at(2, async (second) => {
        for (const client of [first, second]) await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
        for (const client of [first, second]) expect((await client.query(both)).rows).toEqual([{ sum: 0 }]);
        await first.query(`UPDATE acct SET v = 1 WHERE id = ${a}`);
        await second.query(`UPDATE acct SET v = 1 WHERE id = ${b}`);
        for (const client of [first, second]) await client.query('COMMIT');
      }),
    );
    expect(await one(1, both)).toBe(2);
  });
});

describe('statements that see their own changes', () => {
  test('INSERT … SELECT from the same table inserts rows twice', async () => {
    const { rowCount } = await cluster.sql(1).query(`INSERT INTO acct SELECT id + 1000000, grp, 0, 'copy' FROM acct`);
    expect(rowCount).toBeGreaterThan(ROWS);
    await cluster.sql(1).query('DELETE FROM acct WHERE id > 1000000');
  });

  test('UPDATE by a subquery on the same table reads what it has written', async () => {
    await cluster.sql(1).query('UPDATE acct SET v = 0');
    await cluster
      .sql(1)
      .query('UPDATE acct a SET v = (SELECT max(b.v) FROM acct b WHERE b.grp = a.grp) + 1 WHERE a.id <= 200');
    expect(await one(1, 'SELECT count(DISTINCT v)::int FROM acct WHERE id <= 200')).toBeGreaterThan(1);
  });
});
