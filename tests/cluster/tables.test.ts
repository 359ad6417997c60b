import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partitionTable } from '../../src/catalog/names.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { played } from '../support/matrix.ts';
import { eventually, expectReplicasEqual, expectSettled, holdersOf, keyIn, startNodes } from './support/proof.ts';

/** What a distributed table can have, and how it behaves in plain SQL through any node. */

let cluster: LocalCluster;
let nodes: number[];

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
});
afterAll(() => cluster?.close());

const create = (sql: string, distributeBy?: string) =>
  createTable(cluster, sql, { partitions: 2, replicas: 2, ...(distributeBy === undefined ? {} : { distributeBy }) });

async function changeLeader(table: string, pid: number): Promise<void> {
  const { operations } = await cluster.admin({ do: 'partition-change-leader', table, pid, to: 'auto' });
  await cluster.waitForOperation(operations[0] ?? 0);
}

/** SQLSTATE of what the statement fails with. */
async function stateOf(statement: Promise<unknown>): Promise<string | undefined> {
  try {
    await statement;
    return undefined;
  } catch (error) {
    return error instanceof pg.DatabaseError ? error.code : String(error);
  }
}

const KEYS: [type: string, make: string][] = [
  ['bigint', 'n'],
  ['integer', 'n::int'],
  ['text', "'key ' || n"],
  ['uuid', 'md5(n::text)::uuid'],
  ['timestamptz', "timestamptz '2026-01-01' + n * interval '1 hour'"],
  ['numeric', 'n / 8.0'],
  ['bytea', "decode(md5(n::text), 'hex')"],
  ['date', "date '2026-01-01' + n::int"],
  ['inet', "inet '10.0.0.0' + n"],
];

describe('distribution keys', () => {
  it.each(played(KEYS, (_, index) => index % 2 === 0))(
    'of type %s work through every node, before and after a change of leader',
    async (type, make) => {
      const table = `key_${type}`;
      await create(`CREATE TABLE ${table} (k ${type} PRIMARY KEY, writes int NOT NULL)`);
      await cluster.sql(1).query(`INSERT INTO ${table} SELECT ${make}, 0 FROM generate_series(1, 40) n`);
      let writes = 0;
      const everywhere = async () => {
        for (const node of nodes) {
          const sql = cluster.sql(node);
          writes += 1;
          expect(
            await sql.query(
              `UPDATE ${table} SET writes = writes + 1 WHERE k = (SELECT ${make} FROM (VALUES (7)) v(n))`,
            ),
          ).toMatchObject({ rowCount: 1 });
          const { rows } = await sql.query(
            `SELECT writes FROM ${table} WHERE k = (SELECT ${make} FROM (VALUES (7)) v(n))`,
          );
          expect(rows).toEqual([{ writes }]);
          const all = await sql.query(`SELECT count(*)::int AS n, count(DISTINCT k)::int AS keys FROM ${table}`);
          expect(all.rows).toEqual([{ n: 40, keys: 40 }]);
        }
      };
      await everywhere();
      const rows = await cluster.admin({ do: 'partition-ls', table });
      const { rows: sizes } = await cluster
        .sql(2)
        .query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table} GROUP BY tableoid::regclass::text ~ 'p0'`);
      expect(sizes, `both partitions of ${rows.length} replicas hold rows`).toHaveLength(2);
      for (const pid of [0, 1]) await changeLeader(table, pid);
      await everywhere();
    },
  );

  it('may be the second column of the primary key', async () => {
    await create(
      'CREATE TABLE readings (day date, device text, value numeric NOT NULL, PRIMARY KEY (day, device))',
      'device',
    );
    await cluster
      .sql(2)
      .query(`INSERT INTO readings SELECT date '2026-01-01' + n % 4, 'd' || n / 4, n FROM generate_series(0, 39) n`);
    await changeLeader('readings', 0);
    for (const node of nodes) {
      const { rows } = await cluster.sql(node).query("SELECT sum(value)::int AS sum FROM readings WHERE device = 'd3'");
      expect(rows).toEqual([{ sum: 12 + 13 + 14 + 15 }]);
      expect(await stateOf(cluster.sql(node).query("INSERT INTO readings VALUES ('2026-01-01', 'd3', 1)"))).toBe(
        '23505',
      );
    }
    expect((await cluster.admin({ do: 'table-ls' })).find((t) => t.name === 'readings')?.distributeBy).toBe('device');
  });
});

describe('definitions', () => {
  it('keep indexes, unique keys, checks, defaults and collations on every node and after a change of leader', async () => {
    await create(`CREATE TABLE people (
        id bigint PRIMARY KEY, name text COLLATE "C" NOT NULL, born date DEFAULT date '2000-01-01',
        tags text[] NOT NULL DEFAULT '{}', data jsonb, score numeric(6,2) CHECK (score >= 0), UNIQUE (id, name));
      CREATE INDEX ON people (lower(name));
      CREATE INDEX people_data ON people USING gin (data)`);
    const use = async (round: number) => {
      for (const node of nodes) {
        const sql = cluster.sql(node);
        const id = round * 10 + node;
        const { rows } = await sql.query(
          `INSERT INTO people (id, name, score) VALUES ($1, 'Ä', 1.5) RETURNING born::text, tags, score`,
          [id],
        );
        expect(rows).toEqual([{ born: '2000-01-01', tags: [], score: '1.50' }]);
        expect(await stateOf(sql.query("INSERT INTO people (id, name, score) VALUES ($1, 'x', -1)", [id + 5]))).toBe(
          '23514',
        );
        expect(await stateOf(sql.query('INSERT INTO people (id, name) VALUES ($1, NULL)', [id + 5]))).toBe('23502');
        expect(await stateOf(sql.query("INSERT INTO people (id, name) VALUES ($1, 'x')", [id]))).toBe('23505');
      }
    };
    await use(1);
    const holders = await holdersOf(cluster, 'people', 0);
    const tid = (await cluster.admin({ do: 'partition-ls', table: 'people' }))[0]?.tid ?? 0;
    for (const node of [holders.leader, ...holders.followers]) {
      const { rows } = await cluster
        .postgres(node)
        .query(
          `SELECT indexdef FROM pg_indexes WHERE schemaname = 'tide_data' AND tablename = '${partitionTable(tid, 0)}'`,
        );
      expect(rows.map((r) => /USING (.*)/.exec(r.indexdef)?.[1]).sort()).toEqual([
        'btree (id)',
        'btree (id, name)',
        'btree (lower(name))',
        'gin (data)',
      ]);
    }
    for (const pid of [0, 1]) await changeLeader('people', pid);
    await use(2);
  });

  it.each<[what: string, sql: string, code: string, distributeBy?: string]>([
    ['no primary key', 'CREATE TABLE no (id bigint)', 'NO_PRIMARY_KEY'],
    ['a key outside the primary key', 'CREATE TABLE no (id bigint PRIMARY KEY, b int)', 'KEY_NOT_IN_PRIMARY_KEY', 'b'],
    ['an unknown key', 'CREATE TABLE no (id bigint PRIMARY KEY)', 'KEY_COLUMN_UNKNOWN', 'c'],
    ['a unique key without the key', 'CREATE TABLE no (id bigint PRIMARY KEY, b int UNIQUE)', 'UNIQUE_WITHOUT_KEY'],
    ['a key that cannot be hashed', 'CREATE TABLE no (id tsvector PRIMARY KEY)', 'KEY_NOT_HASHABLE'],
    ['a foreign key', 'CREATE TABLE no (id bigint PRIMARY KEY REFERENCES people (id, name))', 'SQL_REFUSED'],
    [
      'a foreign key to itself',
      'CREATE TABLE no (id bigint PRIMARY KEY, up bigint REFERENCES no)',
      'TABLE_UNSUPPORTED',
    ],
    ['serial', 'CREATE TABLE no (id bigserial PRIMARY KEY)', 'TABLE_UNSUPPORTED'],
    ['identity', 'CREATE TABLE no (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)', 'TABLE_UNSUPPORTED'],
    [
      'a generated column',
      'CREATE TABLE no (id bigint PRIMARY KEY, b bigint GENERATED ALWAYS AS (id * 2) STORED)',
      'TABLE_UNSUPPORTED',
    ],
    ['unlogged', 'CREATE UNLOGGED TABLE no (id bigint PRIMARY KEY)', 'TABLE_UNSUPPORTED'],
    ['temporary', 'CREATE TEMPORARY TABLE no (id bigint PRIMARY KEY)', 'TABLE_UNSUPPORTED'],
    ['partition by', 'CREATE TABLE no (id bigint PRIMARY KEY) PARTITION BY HASH (id)', 'TABLE_UNSUPPORTED'],
    ['inherits', 'CREATE TABLE no (id bigint PRIMARY KEY) INHERITS (people)', 'TABLE_UNSUPPORTED'],
    ['like', 'CREATE TABLE no (LIKE people, PRIMARY KEY (id))', 'TABLE_UNSUPPORTED'],
    ['as select', 'CREATE TABLE no AS SELECT 1 AS id', 'TABLE_UNSUPPORTED'],
    [
      'an exclusion constraint',
      'CREATE TABLE no (id int4range PRIMARY KEY, EXCLUDE USING gist (id WITH &&))',
      'TABLE_UNSUPPORTED',
    ],
    ['a custom type', 'CREATE TABLE no (id bigint PRIMARY KEY, m mood)', 'TABLE_UNSUPPORTED'],
    ['a custom domain', 'CREATE TABLE no (id posint PRIMARY KEY)', 'TABLE_UNSUPPORTED'],
    ['an array of a custom type', 'CREATE TABLE no (id bigint PRIMARY KEY, m mood[])', 'TABLE_UNSUPPORTED'],
    [
      "a user's function in a default",
      'CREATE TABLE no (id bigint PRIMARY KEY, b int DEFAULT own())',
      'TABLE_UNSUPPORTED',
    ],
    ["a user's function in a check", 'CREATE TABLE no (id bigint PRIMARY KEY CHECK (id > own()))', 'TABLE_UNSUPPORTED'],
    [
      "a user's function in an index",
      'CREATE TABLE no (id bigint PRIMARY KEY); CREATE INDEX ON no ((own() + id))',
      'TABLE_UNSUPPORTED',
    ],
    ['an unknown type', 'CREATE TABLE no (id bigint PRIMARY KEY, b nonsense)', 'SQL_REFUSED'],
    ['no SQL', 'CREATE TABEL no', 'SQL_REFUSED'],
    ['another statement', 'DROP TABLE people', 'TABLE_UNSUPPORTED'],
    [
      'a second table',
      'CREATE TABLE no (id bigint PRIMARY KEY); CREATE TABLE no2 (id bigint PRIMARY KEY)',
      'TABLE_UNSUPPORTED',
    ],
    [
      'a key that is checked at commit',
      'CREATE TABLE no (id bigint PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)',
      'TABLE_UNSUPPORTED',
    ],
    ['a deferrable unique key', 'CREATE TABLE no (id bigint PRIMARY KEY, UNIQUE (id) DEFERRABLE)', 'TABLE_UNSUPPORTED'],
    [
      'a key that includes columns',
      'CREATE TABLE no (id bigint, b int, PRIMARY KEY (id) INCLUDE (b))',
      'TABLE_UNSUPPORTED',
    ],
    [
      'a compression of its own',
      'CREATE TABLE no (id bigint PRIMARY KEY, b text COMPRESSION pglz)',
      'TABLE_UNSUPPORTED',
    ],
    ['a storage of its own', 'CREATE TABLE no (id bigint PRIMARY KEY, b text STORAGE EXTERNAL)', 'TABLE_UNSUPPORTED'],
    ['NO INHERIT', 'CREATE TABLE no (id bigint PRIMARY KEY CHECK (id > 0) NO INHERIT)', 'SQL_REFUSED'],
    [
      'a check that depends on the time zone',
      'CREATE TABLE no (id bigint PRIMARY KEY, at timestamptz, day date, CHECK (at::date = day))',
      'TABLE_UNSUPPORTED',
    ],
    [
      'a check of the user',
      'CREATE TABLE no (id bigint PRIMARY KEY, who text CHECK (who = current_user))',
      'TABLE_UNSUPPORTED',
    ],
    [
      'a check of the text of a float',
      "CREATE TABLE no (id bigint PRIMARY KEY, f float8 CHECK (f::text <> '1'))",
      'TABLE_UNSUPPORTED',
    ],
    ['a table that exists', 'CREATE TABLE people (id bigint PRIMARY KEY)', 'TABLE_EXISTS'],
    ['a reserved schema', 'CREATE TABLE tide_data.no (id bigint PRIMARY KEY)', 'TABLE_UNSUPPORTED'],
  ])('are refused with %s', async (_what, sql, code, distributeBy) => {
    const setup = `DO $$ BEGIN CREATE TYPE mood AS ENUM ('well'); CREATE DOMAIN posint AS int CHECK (value > 0);
      CREATE FUNCTION own() RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'; EXCEPTION WHEN duplicate_object THEN NULL; END $$`;
    for (const node of nodes) await cluster.postgres(node).query(setup);
    const refused = cluster.admin({ do: 'table-create', sql, ...(distributeBy === undefined ? {} : { distributeBy }) });
    await expect(refused).rejects.toMatchObject({ code, hint: expect.stringMatching(/\w/) });
    const { rows } = await cluster.postgres(1).query("SELECT to_regclass('no') AS no");
    expect(rows).toEqual([{ no: null }]);
  });
});

describe('statements', () => {
  let acct: { tid: number; table: string };
  beforeAll(async () => {
    acct = await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY, value int NOT NULL DEFAULT 0)', {
      partitions: 4,
      replicas: 2,
    });
    await createTable(cluster, 'CREATE TABLE note (id bigint PRIMARY KEY, acct bigint NOT NULL, text text)', {
      partitions: 4,
      replicas: 2,
    });
    await cluster.sql(1).query('INSERT INTO acct SELECT n, n FROM generate_series(1, 100) n');
    await cluster.sql(1).query("INSERT INTO note SELECT n, n % 100 + 1, 'note ' || n FROM generate_series(1, 200) n");
  });

  it('refuse to update the distribution key in the same way through every node', async () => {
    for (const node of nodes) {
      for (const pid of [0, 1, 2, 3]) {
        const id = await keyIn(cluster, acct, 4, pid);
        for (const to of [id + 1_000, 'id + 1000']) {
          expect(
            await stateOf(cluster.sql(node).query(`UPDATE acct SET id = ${to} WHERE id = ${id}`)),
            `partition ${pid} through node ${node}`,
          ).toBe('TD003');
        }
        expect(await stateOf(cluster.sql(node).query('UPDATE acct SET id = id WHERE id = $1', [id]))).toBeUndefined();
      }
    }
  });

  it.each([
    'ALTER TABLE acct ADD COLUMN extra int',
    'ALTER TABLE acct RENAME TO accounts',
    'ALTER TABLE acct RENAME COLUMN value TO v',
    'ALTER TABLE acct ALTER COLUMN value SET DEFAULT 1',
    'CREATE INDEX ON acct (value)',
    'CREATE TRIGGER t BEFORE INSERT ON acct FOR EACH ROW EXECUTE FUNCTION tide.fixed_key()',
    'DROP TABLE acct',
  ])('refuse plain DDL: %s', async (sql) => {
    for (const node of nodes) expect(await stateOf(cluster.sql(node).query(sql)), `through node ${node}`).toBe('TD002');
  });

  it.each([
    'DROP SCHEMA tide_data CASCADE',
    'DROP SERVER IF EXISTS tide_n1, tide_n2 CASCADE',
    'DROP EXTENSION postgres_fdw CASCADE',
    'ALTER TABLE acct SET SCHEMA tide',
  ])("have no right to what is pgtide's: %s", async (sql) => {
    for (const node of nodes) expect(await stateOf(cluster.sql(node).query(sql)), `through node ${node}`).toBe('42501');
  });

  it('leave DDL on other tables alone', async () => {
    await cluster
      .sql(2)
      .query(
        'CREATE TABLE plain (id int PRIMARY KEY); CREATE INDEX ON plain (id); ALTER TABLE plain ADD b int; DROP TABLE plain',
      );
  });

  it("refuse a direct write to a follower's rows, and only there", async () => {
    const { leader, followers } = await holdersOf(cluster, 'acct', 0);
    const replica = `tide_data.${partitionTable(acct.tid, 0)}`;
    for (const node of followers) {
      for (const sql of [
        `UPDATE ${replica} SET value = 0`,
        `DELETE FROM ${replica}`,
        `TRUNCATE ${replica}`,
        `INSERT INTO ${replica} SELECT * FROM ${replica} LIMIT 1`,
      ])
        expect(await stateOf(cluster.manager(node).query(sql)), sql).toBe('TD001');
    }
    expect(await stateOf(cluster.manager(leader).query(`UPDATE ${replica} SET value = value`))).toBeUndefined();
  });

  it('insert many rows, return them, join, and update from a join through every node', async () => {
    for (const node of nodes) {
      const sql = cluster.sql(node);
      const base = node * 1_000;
      const values = Array.from({ length: 12 }, (_, n) => `(${base + n}, ${n})`).join(', ');
      const inserted = await sql.query(`INSERT INTO acct VALUES ${values} RETURNING id`);
      expect(inserted.rows.map((r) => Number(r.id)).sort()).toEqual(Array.from({ length: 12 }, (_, n) => base + n));
      const joined = await sql.query(
        'SELECT count(*)::int AS n FROM acct a JOIN note n ON n.acct = a.id WHERE a.value <= 50',
      );
      expect(joined.rows).toEqual([{ n: 100 }]);
      const updated = await sql.query(
        "UPDATE note SET text = 'of ' || a.value FROM acct a WHERE a.id = note.acct AND note.id = 7 RETURNING note.text",
      );
      expect(updated.rows).toEqual([{ text: 'of 8' }]);
      const deleted = await sql.query('DELETE FROM acct WHERE id >= $1 AND id < $1 + 100 RETURNING value', [base]);
      expect(deleted.rowCount).toBe(12);
    }
  });

  it('copy in and truncate through every node', async () => {
    await create('CREATE TABLE bulk (id bigint PRIMARY KEY, text text)');
    for (const node of nodes) {
      const client = await cluster.sql(node).connect();
      const stream = client.query(copyFrom('COPY bulk FROM STDIN'));
      for (let n = 0; n < 500; n++) stream.write(`${n}\trow ${n}\n`);
      stream.end();
      await once(stream, 'finish');
      expect((await client.query('SELECT count(*)::int AS n FROM bulk')).rows).toEqual([{ n: 500 }]);
      await client.query('TRUNCATE bulk');
      client.release();
      for (const other of nodes)
        expect((await cluster.sql(other).query('SELECT count(*)::int AS n FROM bulk')).rows).toEqual([{ n: 0 }]);
    }
  });

  it('keep savepoints', async () => {
    for (const node of nodes) {
      const client = await cluster.sql(node).connect();
      await client.query('BEGIN');
      await client.query('UPDATE acct SET value = -1 WHERE id <= 20');
      await client.query('SAVEPOINT s');
      await client.query('UPDATE acct SET value = -2 WHERE id <= 20');
      expect(await stateOf(client.query('INSERT INTO acct VALUES (1)'))).toBe('23505');
      await client.query('ROLLBACK TO SAVEPOINT s');
      expect((await client.query('SELECT DISTINCT value FROM acct WHERE id <= 20')).rows).toEqual([{ value: -1 }]);
      await client.query('ROLLBACK');
      expect((await client.query('SELECT count(*)::int AS n FROM acct WHERE value < 0')).rows).toEqual([{ n: 0 }]);
      client.release();
    }
  });

  it('go on as prepared statements, and in cursors, across a change of leader', async () => {
    const sessions = await Promise.all(nodes.map((node) => cluster.sql(node).connect()));
    const ids = await Promise.all([0, 1, 2, 3].map((pid) => keyIn(cluster, acct, 4, pid)));
    const writeText = 'UPDATE acct SET value = value + 1 WHERE id = $1 RETURNING value';
    const run = async () => {
      for (const client of sessions) {
        for (const id of ids) {
          const read = await client.query({ name: 'read', text: 'SELECT value FROM acct WHERE id = $1', values: [id] });
          const written = await client.query({ name: 'write', text: writeText, values: [id] });
          expect(written.rows).toEqual([{ value: Number(read.rows[0]?.value) + 1 }]);
        }
      }
    };
    for (let turn = 0; turn < 7; turn++) await run();
    for (const pid of [0, 1, 2, 3]) {
      await changeLeader('acct', pid);
      await run();
    }
    for (const client of sessions) {
      const plans = await client.query<{ name: string; generic: number; custom: number }>(
        'SELECT name, generic_plans::int AS generic, custom_plans::int AS custom FROM pg_prepared_statements ORDER BY name',
      );
      // A generic plan of an UPDATE would end the server (see postgres/config.ts).
      expect(plans.rows).toEqual(['read', 'write'].map((name) => ({ name, generic: 0, custom: 11 * ids.length })));
      await client.query('BEGIN');
      await client.query('DECLARE c CURSOR FOR SELECT id FROM acct ORDER BY id');
      expect((await client.query('FETCH 30 FROM c')).rowCount).toBe(30);
      expect((await client.query('FETCH ALL FROM c')).rowCount).toBe(70);
      await client.query('COMMIT');
      await client.query('DEALLOCATE ALL');
      client.release(true);
    }
  });

  it('read with generic plans across a change of leader', async () => {
    // Through the listen port they would be executed by the leaders.
    const client = await cluster.postgres(3).connect();
    await client.query('SET plan_cache_mode = force_generic_plan');
    const ids = await Promise.all([0, 1, 2, 3].map((pid) => keyIn(cluster, acct, 4, pid)));
    const run = async () => {
      for (const id of ids) {
        const query = { name: 'one', text: 'SELECT id FROM acct WHERE id = $1', values: [id] };
        expect((await client.query(query)).rows).toEqual([{ id: String(id) }]);
      }
    };
    await run();
    for (const pid of [0, 1, 2, 3]) {
      await changeLeader('acct', pid);
      await run();
    }
    const { rows } = await client.query('SELECT generic_plans::int AS n FROM pg_prepared_statements');
    expect(rows).toEqual([{ n: 20 }]);
    client.release(true);
  });

  it('let an idle session with old cached plans follow a partition that moved', async () => {
    const client = await cluster.sql(3).connect();
    for (let turn = 0; turn < 7; turn++)
      await client.query({ name: 'all', text: 'SELECT count(*)::int AS n FROM acct' });
    for (const pid of [0, 1, 2, 3]) await changeLeader('acct', pid);
    expect((await client.query({ name: 'all', text: 'SELECT count(*)::int AS n FROM acct' })).rows).toEqual([
      { n: 100 },
    ]);
    client.release();
  });

  it('LISTEN through the listen port hears NOTIFY of the same node', async () => {
    const [listener, speaker] = [await cluster.sql(2).connect(), await cluster.sql(2).connect()];
    await listener.query('LISTEN news');
    const heard = once(listener, 'notification');
    await speaker.query("NOTIFY news, 'hello'");
    expect((await Promise.race([heard, sleep(5_000)]))?.[0]).toMatchObject({ channel: 'news', payload: 'hello' });
    await listener.query('UNLISTEN news');
    for (const client of [listener, speaker]) client.release();
  });
});

describe('dropping', () => {
  it('leaves replicas equal before, and nothing after', async () => {
    expect(await expectReplicasEqual(cluster)).toBeGreaterThan(20);
    await expectSettled(cluster, nodes);
    const tables = await cluster.admin({ do: 'table-ls' });
    for (const { name } of tables) {
      const { operation } = await cluster.admin({ do: 'table-drop', table: name });
      await cluster.waitForOperation(operation);
    }
    expect(await cluster.admin({ do: 'table-ls' })).toEqual([]);
    expect(await cluster.admin({ do: 'doctor' })).toEqual({ findings: [], unreachable: [], twins: [] });
    await eventually(async () => {
      for (const node of nodes) {
        const { rows } = await cluster.postgres(node).query(
          `SELECT (SELECT count(*)::int FROM pg_class WHERE relnamespace::regnamespace::text IN ('tide_hinge', 'tide_data', 'tide_remote')) AS relations,
                  (SELECT count(*)::int FROM pg_publication) AS publications, (SELECT count(*)::int FROM pg_subscription) AS subscriptions,
                  (SELECT count(*)::int FROM pg_replication_slots) AS slots, (SELECT count(*)::int FROM pg_replication_origin) AS origins,
                  (SELECT count(*)::int FROM tide.distributed) AS parents, (SELECT count(*)::int FROM pg_foreign_server) AS servers`,
        );
        expect(rows[0]).toEqual({
          relations: 0,
          publications: 0,
          subscriptions: 0,
          slots: 0,
          origins: 0,
          parents: 0,
          servers: 2,
        });
      }
    }, 5_000);
  });
});
