import { readFileSync, writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { parse, parsePlPgSQL } from 'libpg-query';
import { expect, it } from 'vitest';
import type { TableRecord } from '../../../../src/catalog/model.ts';
import { dropRemoteSql, foreignTableSql, guardSql } from '../../../../src/postgres/sql/hinge.ts';
import { partitionChecksSql } from '../../../../src/postgres/sql/partition-checks.ts';
import { replicaSql } from '../../../../src/postgres/sql/replica.ts';
import { parentSql } from '../../../../src/postgres/sql/table.ts';
import { tableRecord } from '../../../fakes/records.ts';
import { oddText } from '../support/odd-text.ts';

/**
 * What a distributed table is made of, as text: nodes of several versions stand beside each other, and ATTACH
 * takes only tables that are equal. `REWRITE=1 npx vitest run --project unit
 * tests/unit/postgres/sql/table.test.ts` writes the file.
 */
const FILE = new URL('../testdata/table.sql', import.meta.url);

const table: TableRecord = {
  ...tableRecord(4, 'acct', 2, [
    [1, 2],
    [2, 3],
  ]),
  definition: {
    columns: [
      { name: 'id', type: 'bigint', notNull: true, default: null },
      { name: 'City', type: 'text COLLATE pg_catalog."C"', notNull: false, default: "'it''s'::text" },
    ],
    primaryKey: ['id', 'City'],
    checks: [{ name: 'no "zero"', definition: 'CHECK ((id <> 0))' }],
    indexes: [
      { unique: false, definition: 'USING btree ("City")' },
      { unique: true, definition: 'USING btree ("City", id)', columns: ['City', 'id'] },
    ],
  },
};

it('every part is made by the same words', async () => {
  const parts: Record<string, string[]> = {
    'the rows of p0': replicaSql(table, 0),
    'their constraint, where the table is there already': partitionChecksSql(table, 0),
    'the table on node 1, which leads p0': parentSql(1, table),
    'the table on node 3, which follows in p1': parentSql(3, table),
    'a way to p0 on node 3': [foreignTableSql(table, 0, 3).create],
    'and no more': [dropRemoteSql(4, 0, 3)],
    'the guard of a follower': [guardSql(4, 0, true)],
    'and of a leader': [guardSql(4, 0, false)],
  };
  const text = Object.entries(parts)
    .map(([title, statements]) => `-- ${title}\n${statements.map((s) => `${s};\n`).join('')}`)
    .join('\n');
  await parse(text);
  if (process.env.REWRITE) writeFileSync(FILE, text);
  expect(text).toBe(readFileSync(FILE, 'utf8'));
});

/** All values of a field in a tree of PostgreSQL's parser. */
function valuesOf(tree: unknown, field: string): string[] {
  if (typeof tree !== 'object' || tree === null) return [];
  return Object.entries(tree).flatMap(([name, value]) =>
    name === field && typeof value === 'string' ? [value] : valuesOf(value, field),
  );
}

// Longer ones were cut off by PostgreSQL before anybody here had heard them.
const name = oddText({ minLength: 1 }).filter((text) => Buffer.byteLength(text) < 64);

function named(schema: string, tableName: string, key: string, others: readonly string[]): TableRecord {
  const columns = [key, ...others].map((column) => ({ name: column, type: 'bigint', notNull: true, default: null }));
  const definition = { ...table.definition, columns, primaryKey: [key], indexes: [] };
  return { ...table, schema, name: tableName, distributeBy: key, definition };
}

it('whatever its names, PostgreSQL reads just those', async () => {
  const columns = fc.uniqueArray(name, { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(name, name, columns, async (schema, tableName, [key = '', ...others]) => {
      const odd = named(schema, tableName, key, others);
      const parent = await parse(parentSql(2, odd)[1] ?? '');
      expect(valuesOf(parent, 'schemaname')).toEqual([schema]);
      expect(valuesOf(parent, 'relname')).toEqual([tableName]);
      expect(valuesOf(parent, 'colname')).toEqual([key, ...others]);
      const all = await parse([...parentSql(2, odd), ...replicaSql(odd, 0)].join(';\n'));
      const own = ['t4_p0', 't4_p0_n1', 't4_p1', 'distributed'];
      expect(new Set(valuesOf(all, 'relname'))).toEqual(new Set([tableName, ...own]));
      expect(new Set(valuesOf(all, 'colname'))).toEqual(new Set([key, ...others]));
    }),
  );
});

interface Expression {
  A_Expr?: { lexpr: Expression; rexpr: Expression };
  A_Const?: { sval: { sval: string } };
}

/** What texts that are put together come to; every oid is 16384. */
function textOf({ A_Expr, A_Const }: Expression): string {
  return A_Expr ? textOf(A_Expr.lexpr) + textOf(A_Expr.rexpr) : (A_Const?.sval.sval ?? '16384');
}

it('nor are they mistaken in the constraint, which is text in a text in a text', async () => {
  await fc.assert(
    fc.asyncProperty(name, name, name, async (schema, tableName, key) => {
      const [statement = ''] = partitionChecksSql(named(schema, tableName, key, []), 0);
      const executed = valuesOf(await parsePlPgSQL(statement), 'query').filter((text) => text.includes('||'));
      expect(executed).toHaveLength(2);
      for (const expression of executed) {
        const select = (await parse(`SELECT ${expression}`)).stmts?.[0]?.stmt as {
          SelectStmt: { targetList: { ResTarget: { val: Expression } }[] };
        };
        const alter = await parse(textOf(select.SelectStmt.targetList[0]?.ResTarget.val ?? {}));
        expect(valuesOf(alter, 'relname')).toEqual(['t4_p0']);
        expect(valuesOf(alter, 'sval')).toEqual(expect.arrayContaining(['satisfies_hash_partition', key]));
      }
      expect(valuesOf(await parse(`SELECT ${executed[0]}`), 'sval')).toContain(
        `"${schema.replaceAll('"', '""')}"."${tableName.replaceAll('"', '""')}"`,
      );
    }),
  );
});
