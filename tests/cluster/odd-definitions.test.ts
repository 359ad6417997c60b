import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ident, literal, qualified } from '../../src/postgres/sql/client.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { played } from '../support/matrix.ts';
import { eventually, expectReplicasEqual, expectSettled, startNodes } from './support/proof.ts';

/** Tables of every type there is, and with names that a statement built as text would not survive. */

let cluster: LocalCluster;
let nodes: number[];

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
});
afterAll(() => cluster?.close());

const create = (sql: string) => createTable(cluster, sql, { partitions: 2, replicas: 2 });

/** Texts, one of which nearly every type takes for a value. */
const SAMPLES = [
  '1',
  'a',
  't',
  '{}',
  '2026-01-02 03:04:05',
  '12:00',
  '(1,2)',
  '(1,2),(3,4)',
  '<(1,2),3>',
  '{1,2,3}',
].concat([
  '[(1,2),(3,4)]',
  '10.0.0.1',
  '08:00:2b:01:02:03',
  '08:00:2b:01:02:03:04:05',
  '01010101-0101-0101-0101-010101010101',
  '[]',
  '{"a": 1}',
  '$.a',
  '<a/>',
  'empty',
  '0/1',
  '1:1:',
  'postgres=r/postgres',
  'pg_class',
  'int4',
  '1 day',
]);

describe('every type of PostgreSQL', () => {
  it('is refused, or its values arrive at followers and come back through every node', async () => {
    const sql = cluster.sql(1);
    const { rows: types } = await sql.query<{ type: string; hasArray: boolean; sample: string | null }>(
      `select format_type(t.oid, null) as type, t.typarray <> 0 as "hasArray",
              case when t.typcategory <> 'Z' and t.typsend <> 0 then
                (select s from unnest($1::text[]) s where pg_input_is_valid(s, format_type(t.oid, null)) limit 1) end as sample
         from pg_type t where t.typtype in ('b', 'd', 'r', 'm') and t.typnamespace = 'pg_catalog'::regnamespace
          and t.oid < 16384 and t.typcategory <> 'A' order by 1`,
      [SAMPLES],
    );
    expect(types.length).toBeGreaterThan(70);
    const taken: { type: string; sample: string | null }[] = [];
    const refused: string[] = [];
    const arrays = types
      .filter((t) => t.hasArray)
      .map((t) => ({ type: `${t.type}[]`, sample: t.sample === null ? null : `{${JSON.stringify(t.sample)}}` }));
    for (const each of [...types, ...arrays]) {
      try {
        await cluster.admin({ do: 'table-create', sql: `CREATE TABLE probe (id int, x ${each.type})`, partitions: 1 });
      } catch (error) {
        // Without a primary key it is refused in any case: behind the types.
        const { code, message } = error as { code: string; message: string };
        if (code === 'NO_PRIMARY_KEY') taken.push(each);
        else refused.push(`${each.type} ${code}: ${message}`);
      }
    }
    const names = refused.map((line) => line.split(' TABLE_')[0]);
    expect(names).toEqual(
      expect.arrayContaining(['aclitem', 'aclitem[]', 'regclass', 'regclass[]', 'regrole', 'regtype', 'pg_node_tree']),
    );
    expect(names).not.toEqual(expect.arrayContaining(['jsonb']));
    expect(refused.filter((line) => !line.includes('TABLE_UNSUPPORTED'))).toEqual([]);
    expect(taken.length).toBeGreaterThan(100);

    const columns = taken.map((each, i) => `c${i} ${each.type}`);
    await create(`CREATE TABLE every (id int PRIMARY KEY, ${columns.join(', ')})`);
    const values = taken.map((each) => (each.sample === null ? 'NULL' : literal(each.sample)));
    expect(values.filter((value) => value !== 'NULL').length).toBeGreaterThan(100);
    await sql.query(`INSERT INTO every VALUES ${[1, 2, 3, 4].map((id) => `(${id}, ${values.join(', ')})`).join(', ')}`);
    await expectReplicasEqual(cluster);
    const texts = taken.map((_, i) => `c${i}::text`).join(', ');
    const read = async (node: number) =>
      (await cluster.sql(node).query(`SELECT id, ${texts} FROM every ORDER BY id`)).rows;
    const rows = await read(1);
    expect(rows).toHaveLength(4);
    for (const node of nodes) expect(await read(node)).toEqual(rows);
  });

  it('refuses the row of another table, also of a catalog', async () => {
    const refused = create('CREATE TABLE probe (id int PRIMARY KEY, x pg_database)');
    await expect(refused).rejects.toMatchObject({
      code: 'TABLE_UNSUPPORTED',
      message: expect.stringContaining('pg_database'),
    });
  });
});

const NAMES = [
  '$tide$',
  "it's",
  'a"b',
  'a.b',
  'x USING y',
  'line\nbreak',
  'back\\slash',
  '$1',
  '%s %I',
  '; --',
  ' ',
  'ä'.repeat(31),
  '$(x)',
  'tide',
  'Select',
];

describe('names', () => {
  const triples = NAMES.map((name, i) => [
    name,
    NAMES[(i + 1) % NAMES.length] ?? '',
    NAMES[(i + 2) % NAMES.length] ?? '',
  ]);
  it.each(played(triples, (_, i) => i % 3 === 0))('such as %j live through everything', async (name, key, other) => {
    const schema = name.startsWith('tide') ? 's' : `s ${name}`.slice(0, 30);
    const table = qualified(schema, name);
    await create(
      `CREATE TABLE ${table} (${ident(key)} text, ${ident(`${other}2`)} text NOT NULL DEFAULT ${literal(other)},
           CONSTRAINT ${ident(`${name}3`.slice(0, 30))} CHECK (${ident(key)} <> ${literal(name)}),
           PRIMARY KEY (${ident(key)}), UNIQUE (${ident(key)}, ${ident(`${other}2`)}));
         CREATE INDEX ${ident(`${name} USING ${key}`.slice(0, 30))} ON ${table} USING btree (${ident(`${other}2`)}) WHERE ${ident(key)} <> ' USING '`,
    );
    const [info] = (await cluster.admin({ do: 'table-ls' })).filter((t) => t.name === name && t.schema === schema);
    const called = `${schema}.${name}`;
    expect(info).toMatchObject({ state: 'ready', partitions: 2 });
    const write = (node: number, from: number) =>
      cluster
        .sql(node)
        .query(`INSERT INTO ${table} (${ident(key)}) SELECT 'k' || i FROM generate_series(${from}, ${from + 9}) i`);
    for (const node of nodes) await write(node, node * 10);
    for (const pid of [0, 1]) {
      const { operations } = await cluster.admin({ do: 'partition-change-leader', table: called, pid, to: 'auto' });
      await cluster.waitForOperation(operations[0] ?? 0);
    }
    for (const node of nodes) await write(node, 100 + node * 10);
    for (const node of nodes) {
      const { rows } = await cluster
        .sql(node)
        .query(`SELECT count(*)::int AS n, max(${ident(`${other}2`)}) AS d FROM ${table}`);
      expect(rows).toEqual([{ n: 60, d: other }]);
    }
    await expectReplicasEqual(cluster);
    const { operation } = await cluster.admin({ do: 'table-drop', table: called });
    await cluster.waitForOperation(operation);
    for (const node of nodes)
      await eventually(async () =>
        expect(
          (
            await cluster
              .postgres(node)
              .query('SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = $2', [schema, name])
          ).rowCount,
        ).toBe(0),
      );
  });
});

describe('a name that an ordinary object of one node has', () => {
  it.each([
    ['table', 'CREATE TABLE taken (a int)', 'DROP TABLE taken'],
    ['view', 'CREATE VIEW taken AS SELECT 1 AS a', 'DROP VIEW taken'],
    ['sequence', 'CREATE SEQUENCE taken', 'DROP SEQUENCE taken'],
    ['type', "CREATE TYPE taken AS ENUM ('a')", 'DROP TYPE taken'],
  ])('is refused before anything is made: %s', async (what, make, drop) => {
    for (const node of nodes) {
      await cluster.postgres(node).query(make);
      const before = (await cluster.admin({ do: 'op-ls', all: true })).length;
      const refused = cluster.admin({
        do: 'table-create',
        sql: 'CREATE TABLE taken (id int PRIMARY KEY)',
        partitions: 2,
      });
      await expect(refused).rejects.toMatchObject({
        code: 'TABLE_EXISTS',
        message: expect.stringContaining(`node ${node}`),
      });
      await expect(refused).rejects.toMatchObject({
        message: expect.stringContaining(what === 'table' ? 'taken' : what),
      });
      expect((await cluster.admin({ do: 'op-ls', all: true })).length).toBe(before);
      await cluster.postgres(node).query(drop);
    }
    await expectSettled(cluster, nodes);
  });

  it('is told of where a node that was away has it, and catches up when it is gone', async () => {
    await cluster.postgres(3).query('CREATE TABLE taken (note text)');
    await cluster.node(3).stop();
    const status = async () => (await cluster.admin({ do: 'node-status' })).find((n) => n.id === 3)?.isLive;
    await expect.poll(status, { timeout: 30_000 }).toBe(false);
    await createTable(cluster, 'CREATE TABLE taken (id int PRIMARY KEY)', { partitions: 2, replicas: 1 });
    const back = cluster.node(3).restart();
    const blocked = async () => (await cluster.admin({ do: 'events' })).filter((e) => e.kind === 'catch-up-blocked');
    await expect.poll(async () => (await blocked()).length, { timeout: 60_000 }).toBe(1);
    expect((await blocked())[0]).toMatchObject({ node: 3, text: expect.stringContaining('taken') });
    await cluster.postgres(3).query('DROP TABLE taken');
    await back;
    await cluster.sql(1).query('INSERT INTO taken SELECT n FROM generate_series(1, 10) n');
    const count = async () =>
      (
        await cluster
          .postgres(3)
          .query('SELECT count(*)::int AS n FROM taken')
          .catch(() => null)
      )?.rows[0]?.n;
    await expect.poll(count, { timeout: 60_000 }).toBe(10);
    expect(await blocked()).toHaveLength(1);
    await expectSettled(cluster, nodes);
  });
});
