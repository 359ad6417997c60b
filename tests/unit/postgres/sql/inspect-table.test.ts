import { describe, expect, it } from 'vitest';
import type { TableDefinition } from '../../../../src/catalog/model.ts';
import { chooseKey, inspectTable } from '../../../../src/postgres/sql/inspect-table.ts';
import { ScriptedSql, sqlFailure } from '../support/scripted-sql.ts';

/** Two sessions on node 3, the manager's and a client's. */
function inspect(text: string, client = new ScriptedSql()) {
  const manager = new ScriptedSql();
  return { manager, client, table: inspectTable(manager, (work) => work(client), 3, text, undefined) };
}

describe('what a statement says is refused before it reaches a server', () => {
  it.each([
    ['SELECT 1', 'the statement'],
    ['DROP TABLE t', 'the statement'],
    ['-- nothing', 'the statement'],
    ['CREATE TABLE t AS SELECT 1 AS id', 'the statement'],
    ['CREATE TABLE t () INHERITS (u)', 'INHERITS'],
    ["CREATE TABLE t PARTITION OF u FOR VALUES IN ('a')", 'PARTITION OF'],
    ['CREATE TABLE t (id int PRIMARY KEY) PARTITION BY HASH (id)', 'PARTITION BY'],
    ['CREATE TABLE t OF kind', 'OF type'],
    ['CREATE TABLE t (id int PRIMARY KEY) WITH (fillfactor = 70)', 'WITH (storage parameters)'],
    ['CREATE TABLE t (id int PRIMARY KEY) TABLESPACE fast', 'TABLESPACE'],
    ['CREATE TABLE t (id int PRIMARY KEY) USING heap', 'USING access method'],
    ['CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY)', 'IF NOT EXISTS'],
    ['CREATE TEMP TABLE t (id int PRIMARY KEY)', 'TEMPORARY'],
    ['CREATE UNLOGGED TABLE t (id int PRIMARY KEY)', 'UNLOGGED'],
    ['CREATE TABLE t (LIKE u)', 'LIKE'],
    ['CREATE TABLE tide.t (id int PRIMARY KEY)', 'schema tide'],
    ['CREATE TABLE tide_data.t (id int PRIMARY KEY)', 'schema tide_data'],
    ['CREATE TABLE pg_catalog.t (id int PRIMARY KEY)', 'schema pg_catalog'],
    ['CREATE TABLE t (id int PRIMARY KEY); DROP TABLE u', 'a second statement'],
    ['CREATE TABLE t (id int PRIMARY KEY); CREATE INDEX ON u (id)', 'a second statement'],
    ['CREATE TABLE a.t (id int PRIMARY KEY); CREATE INDEX ON t (id)', 'a second statement'],
    ['CREATE TABLE t (id int PRIMARY KEY); CREATE INDEX CONCURRENTLY ON t (id)', 'CONCURRENTLY'],
  ])('%s', async (text, what) => {
    const { manager, client, table } = inspect(text);
    const refusal = await table.catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: 'TABLE_UNSUPPORTED', details: { what: expect.stringContaining(what) } });
    expect([...manager.asked, ...client.asked]).toEqual([]);
  });

  it.each(['', 'CREATE TABEL t (id int)'])('no SQL: %j', async (text) => {
    const { client, table } = inspect(text);
    await expect(table).rejects.toMatchObject({ code: 'SQL_REFUSED', details: { sqlstate: '42601' } });
    expect(client.asked).toEqual([]);
  });
});

describe('long statements', () => {
  it('a part that is nested deep is refused, and the next statement is read as ever', async () => {
    const deep = `CREATE TABLE t (id int PRIMARY KEY, a int DEFAULT ${'('.repeat(5_000)}1${')'.repeat(5_000)})`;
    const deeper = [
      deep,
      `CREATE TABLE t (id int PRIMARY KEY, a int[] DEFAULT ${'array[1,'.repeat(3_000)}1${']'.repeat(3_000)})`,
      `CREATE TABLE t (id int PRIMARY KEY, a text DEFAULT $$)))))$$ || ${'f(1,'.repeat(3_000)}1${')'.repeat(3_000)})`,
    ];
    for (let i = 0; i < 30; i++) {
      const { client, table } = inspect(deeper[i % deeper.length] ?? '');
      await expect(table).rejects.toMatchObject({
        code: 'SQL_REFUSED',
        details: { why: 'it has a part of more than 1000 words and signs' },
      });
      expect(client.asked).toEqual([]);
    }
    await expect(inspect('DROP TABLE t').table).rejects.toMatchObject({ code: 'TABLE_UNSUPPORTED' });
  });

  it('a table of many columns gets to the server', async () => {
    const columns = Array.from({ length: 1_000 }, (_, i) => `"c,${i}" numeric(10, 2) NOT NULL DEFAULT 0 CHECK (a > 0)`);
    const text = `CREATE TABLE t (id int PRIMARY KEY, ${columns.join(', ')})`;
    const { table } = inspect(text, new ScriptedSql({ [text]: sqlFailure('42704', 'it got there') }));
    await expect(table).rejects.toMatchObject({ code: 'SQL_REFUSED', details: { why: 'it got there' } });
  });
});

describe('what the server refuses', () => {
  const TEXT = 'CREATE TABLE a.t (id int PRIMARY KEY)';

  it.each([
    ['42P07', { code: 'TABLE_EXISTS', details: { why: 'so it is on node 3' } }],
    ['42704', { code: 'SQL_REFUSED', details: { why: 'so it is', sqlstate: '42704', statement: TEXT } }],
    // It is being shut down, or this took too long: another try may do.
    ['57P01', { code: '57P01', message: 'so it is' }],
  ])('with %s is told so, and nothing of it stays', async (sqlstate, wanted) => {
    const { manager, client, table } = inspect(TEXT, new ScriptedSql({ [TEXT]: sqlFailure(sqlstate, 'so it is') }));
    await expect(table).rejects.toMatchObject(wanted);
    expect(client.asked.at(-1)).toBe('ROLLBACK');
    expect(manager.asked).toEqual([]);
  });

  it('is not tried where something has the name', async () => {
    const { client, table } = inspect(TEXT, new ScriptedSql({ pg_describe_object: [{ what: 'view a.t' }] }));
    await expect(table).rejects.toMatchObject({
      code: 'TABLE_EXISTS',
      details: { why: 'node 3 has a view a.t already' },
    });
    expect(client.asked).not.toContain(TEXT);
  });
});

describe('the distribution key', () => {
  const column = (name: string) => ({ name, type: 'int', notNull: true, default: null });
  const definition = (primaryKey: string[], ...indexes: TableDefinition['indexes']): TableDefinition => ({
    columns: ['id', 'city', 'note'].map(column),
    primaryKey,
    checks: [],
    indexes,
  });
  const choose = (of: TableDefinition, wanted?: string) => () => chooseKey(of, 'public.t', wanted);

  it('is the first column of the primary key, or the one that is asked for', () => {
    expect(choose(definition(['city', 'id']))()).toBe('city');
    expect(choose(definition(['city', 'id']), 'id')()).toBe('id');
  });

  it.each([
    [definition([]), undefined, 'NO_PRIMARY_KEY'],
    [definition(['id']), 'nobody', 'KEY_COLUMN_UNKNOWN'],
    [definition(['id']), 'city', 'KEY_NOT_IN_PRIMARY_KEY'],
    [
      definition(['id'], { unique: true, definition: 'USING btree (city)', columns: ['city'] }),
      'id',
      'UNIQUE_WITHOUT_KEY',
    ],
    [definition(['id'], { unique: true, definition: 'USING btree (lower(note))' }), 'id', 'UNIQUE_WITHOUT_KEY'],
  ])('cannot be chosen (%#): %s', (of, wanted, code) => {
    expect(choose(of, wanted)).toThrow(expect.objectContaining({ code }));
  });

  it('has to be in unique indexes only', () => {
    const unique = { unique: true, definition: 'USING btree (id, city)', columns: ['id', 'city'] };
    const plain = { unique: false, definition: 'USING btree (city)', columns: ['city'] };
    expect(choose(definition(['id'], unique, plain))()).toBe('id');
  });
});
