import type pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { hold } from '../support/operations.ts';
import { eventually, holdersOf, keyIn, startNodes } from './support/proof.ts';
import { login, routed, wasRouted } from './support/routed.ts';

/**
 * What a session is, its statements are executed with, wherever that is: its settings, its rights, what
 * names mean in it. What is not the same elsewhere is executed at home.
 */

const PARTITIONS = 4;
const COLUMNS = '(id bigint PRIMARY KEY, at timestamptz, f float8 DEFAULT 2.345, t text)';
const INSTANT = '2026-01-01 12:00';
const HOME = 1;
const OTHER = 2;

let cluster: LocalCluster;
let tid: number;
let client: pg.Client;
/** A key of a row that the other node leads. */
let key: number;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  await startNodes(cluster, 2);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  ({ tid } = await createTable(cluster, `CREATE TABLE seen ${COLUMNS}`, { partitions: PARTITIONS, replicas: 1 }));
});
afterAll(() => cluster?.close());

beforeEach(async () => {
  const leaders = await Promise.all(
    Array.from({ length: PARTITIONS }, async (_, pid) => (await holdersOf(cluster, 'seen', pid)).leader),
  );
  key = await keyIn(cluster, { tid, table: 'seen' }, PARTITIONS, leaders.indexOf(OTHER), 1);
  await cluster.sql(HOME).query('INSERT INTO seen (id, t) VALUES ($1, $2)', [key, 'a']);
  client = await login(cluster, HOME);
  return async () => {
    await client.end().catch(() => {});
    await cluster.sql(HOME).query('DELETE FROM seen');
  };
});

const onEveryNode = async (text: string) => {
  for (const { id } of cluster.nodes) await cluster.manager(id).query(text);
};
const asUtc = async () => {
  const { rows } = await cluster
    .sql(HOME)
    .query("SELECT (at AT TIME ZONE 'UTC')::text AS at FROM seen WHERE id = $1", [key]);
  return rows[0].at;
};
const setAt = (session: pg.Client) =>
  routed(cluster, session, `UPDATE seen SET MARK at = '${INSTANT}' WHERE id = $1`, [key]);

describe('settings', () => {
  test('that a session has changed are in force elsewhere', async () => {
    await setAt(client);
    expect(await asUtc()).toBe('2026-01-01 12:00:00');
    await client.query("SET TimeZone = 'Asia/Tokyo'");
    await setAt(client);
    expect(await asUtc()).toBe('2026-01-01 03:00:00');
    await client.query("BEGIN; SET TimeZone = 'America/New_York'; ROLLBACK");
    await setAt(client);
    expect(await asUtc()).toBe('2026-01-01 03:00:00');
  });

  test('of the database are those of the day on which the session began', async () => {
    await onEveryNode("ALTER DATABASE tide SET TimeZone = 'Asia/Tokyo'");
    try {
      await setAt(client);
      expect(await asUtc()).toBe('2026-01-01 12:00:00');
      const younger = await login(cluster, HOME);
      await setAt(younger);
      expect(await asUtc()).toBe('2026-01-01 03:00:00');
      await younger.end();
    } finally {
      await onEveryNode('ALTER DATABASE tide RESET TimeZone');
    }
  });

  test('of the role bound a statement that waits elsewhere', async () => {
    await onEveryNode("ALTER ROLE tide SET statement_timeout = '400ms'");
    try {
      const younger = await login(cluster, HOME);
      await routed(cluster, younger, 'UPDATE seen SET MARK f = 1 WHERE id = $1', [key]);
      const { postgresPort } = cluster.node(OTHER);
      const holder = await hold(postgresPort, `UPDATE seen SET f = 2 WHERE id = ${key}`, 'tide');
      const update = { text: 'UPDATE seen SET /* waits */ f = 3 WHERE id = $1', values: [key] };
      await expect(younger.query(update)).rejects.toMatchObject({ code: '57014' });
      expect(await wasRouted(cluster, '/* waits */')).toBe(true);
      await holder.query('ROLLBACK');
      await Promise.all([holder.end(), younger.end()]);
    } finally {
      await onEveryNode('ALTER ROLE tide RESET statement_timeout');
    }
  });
});

describe('names', () => {
  test('of functions that somebody has made are those of home', async () => {
    const round = { text: 'SELECT round(f, 2)::text AS f FROM seen WHERE id = $1', values: [key] };
    await expect(client.query(round)).rejects.toMatchObject({ code: '42883' });
    await routed(cluster, client, 'SELECT MARK f FROM seen WHERE id = $1', [key]);
    await cluster
      .sql(HOME)
      .query(
        `CREATE FUNCTION public.round(f double precision, n int) RETURNS numeric RETURN pg_catalog.round(f::numeric, n)`,
      );
    try {
      for (let i = 0; i < 50; i++) expect((await client.query(round)).rows).toEqual([{ f: '2.35' }]);
    } finally {
      await cluster.sql(HOME).query('DROP FUNCTION public.round(double precision, int)');
    }
  });

  test('of tables are looked up where the session looks', async () => {
    await createTable(cluster, `CREATE TABLE app.seen ${COLUMNS}`, { partitions: 2, replicas: 1 });
    await routed(cluster, client, 'UPDATE seen SET MARK t = $2 WHERE id = $1', [key, 'public']);
    await client.query('SET search_path = app, public');
    await cluster.sql(HOME).query('INSERT INTO app.seen (id) VALUES ($1)', [key]);
    await routed(cluster, client, 'UPDATE seen SET MARK t = $2 WHERE id = $1', [key, 'app']);
    const both = await cluster.sql(HOME).query('SELECT a.t AS a, b.t AS b FROM public.seen a, app.seen b');
    expect(both.rows).toEqual([{ a: 'public', b: 'app' }]);
    await cluster.sql(HOME).query('DELETE FROM app.seen');
  });

  test('a table of the session’s own is meant, and a statement of a table that is gone is none of the next', async () => {
    const { operation } = await cluster.admin({
      do: 'table-create',
      sql: 'CREATE TABLE gone (id bigint PRIMARY KEY, a int)',
      partitions: 2,
      replicas: 1,
    });
    await cluster.waitForOperation(operation);
    await cluster.sql(HOME).query('INSERT INTO gone VALUES (1, 4)');
    const all = { name: 'all', text: 'SELECT * FROM gone WHERE id = $1', values: [1] };
    await eventually(async () => {
      expect((await client.query(all)).rows).toEqual([{ id: '1', a: 4 }]);
      expect(await wasRouted(cluster, '* FROM tide_hinge')).toBe(true);
    });
    await cluster.waitForOperation((await cluster.admin({ do: 'table-drop', table: 'gone' })).operation);
    await createTable(cluster, 'CREATE TABLE gone (id bigint PRIMARY KEY, b text, c text)', {
      partitions: 2,
      replicas: 1,
    });
    await cluster.sql(HOME).query("INSERT INTO gone VALUES (1, 'b', 'c')");
    await expect(client.query(all)).rejects.toMatchObject({ code: '0A000' });
    await client.query('CREATE TEMPORARY TABLE seen (id bigint, t text)');
    expect((await client.query('SELECT t FROM seen WHERE id = $1', [key])).rows).toEqual([]);
  });
});

describe('moments', () => {
  test('that a statement names are those of its execution', async () => {
    const now = { text: "SELECT (at = 'now')::text AS at FROM seen WHERE id = $1", values: [key] };
    await routed(cluster, client, 'SELECT MARK t FROM seen WHERE id = $1', [key]);
    await cluster.sql(HOME).query('UPDATE seen SET at = clock_timestamp() WHERE id = $1', [key]);
    expect((await client.query(now)).rows).toEqual([{ at: 'false' }]);
    const set = { text: "UPDATE seen SET at = 'now' WHERE id = $1 RETURNING at", values: [key] };
    const first = (await client.query(set)).rows[0].at;
    const second = (await client.query(set)).rows[0].at;
    expect(second.getTime()).toBeGreaterThan(first.getTime());
  });
});

describe('rights', () => {
  test('that are taken away are gone a moment later', async () => {
    const update = { text: 'UPDATE seen SET t = $2 WHERE id = $1', values: [key, 'b'] };
    await routed(cluster, client, 'UPDATE seen SET MARK t = $2 WHERE id = $1', [key, 'a']);
    await cluster.manager(HOME).query('REVOKE UPDATE ON seen FROM tide_owner');
    try {
      await eventually(async () => await expect(client.query(update)).rejects.toMatchObject({ code: '42501' }));
      await routed(cluster, client, 'SELECT MARK t FROM seen WHERE id = $1', [key]);
      await expect(client.query(update)).rejects.toMatchObject({ code: '42501' });
    } finally {
      await cluster.manager(HOME).query('GRANT UPDATE ON seen TO tide_owner');
    }
    await routed(cluster, client, 'UPDATE seen SET MARK t = $2 WHERE id = $1', [key, 'c']);
  });

  test('are those of the role that a session has become', async () => {
    await routed(cluster, client, 'UPDATE seen SET MARK t = $2 WHERE id = $1', [key, 'a']);
    await client.query('CREATE ROLE reader ROLE tide');
    await client.query('SET ROLE reader');
    const update = { text: 'UPDATE seen SET t = $2 WHERE id = $1', values: [key, 'b'] };
    for (let i = 0; i < 5; i++) await expect(client.query(update)).rejects.toMatchObject({ code: '42501' });
    await client.query('RESET ROLE');
    await client.query('DROP ROLE reader');
  });
});

describe('the home of a session', () => {
  test('ends it in the middle of a statement elsewhere: that is answered first', async () => {
    await routed(cluster, client, 'UPDATE seen SET MARK t = $2 WHERE id = $1', [key, 'a']);
    const { rows } = await client.query('SELECT pg_backend_pid() AS pid');
    const holder = await hold(cluster.node(OTHER).postgresPort, `UPDATE seen SET t = 'h' WHERE id = ${key}`, 'tide');
    const ended = new Promise((resolve) => client.once('end', resolve));
    const waits = client.query({ text: 'UPDATE seen SET /* ends */ t = $2 WHERE id = $1', values: [key, 'b'] });
    await eventually(async () => expect(await wasRouted(cluster, '/* ends */')).toBe(true));
    const { rowCount } = await cluster.manager(HOME).query('SELECT pg_terminate_backend($1)', [rows[0].pid]);
    expect(rowCount).toBe(1);
    await eventually(async () => {
      const left = await cluster.manager(HOME).query('SELECT FROM pg_stat_activity WHERE pid = $1', [rows[0].pid]);
      expect(left.rowCount).toBe(0);
    });
    await holder.query('COMMIT');
    await holder.end();
    expect((await waits).rowCount).toBe(1);
    await ended;
    const left = await cluster.sql(HOME).query('SELECT t FROM seen WHERE id = $1', [key]);
    expect(left.rows).toEqual([{ t: 'b' }]);
  });

  test('a client that goes while its statement waits elsewhere: it is cancelled there', async () => {
    const leaving = await login(cluster, HOME);
    await routed(cluster, leaving, 'UPDATE seen SET MARK t = $2 WHERE id = $1', [key, 'a']);
    const holder = await hold(cluster.node(OTHER).postgresPort, `UPDATE seen SET t = 'h' WHERE id = ${key}`, 'tide');
    const isActive = async () => {
      const text = `SELECT FROM pg_stat_activity WHERE state = 'active' AND strpos(query, '/* goes' || ' */') > 0`;
      return (await cluster.manager(OTHER).query(text)).rowCount === 1;
    };
    const waits = leaving.query({ text: 'UPDATE seen SET /* goes */ t = $2 WHERE id = $1', values: [key, 'b'] });
    const gone = expect(waits).rejects.toThrow();
    await eventually(async () => expect(await wasRouted(cluster, '/* goes */')).toBe(true));
    must(
      (leaving as unknown as { connection: { stream: { destroy(): void } } }).connection,
      'connection',
    ).stream.destroy();
    await gone;
    await eventually(async () => expect(await isActive()).toBe(false));
    await holder.query('ROLLBACK');
    await holder.end();
    expect((await cluster.sql(HOME).query('SELECT t FROM seen WHERE id = $1', [key])).rows).toEqual([{ t: 'a' }]);
  });
});
