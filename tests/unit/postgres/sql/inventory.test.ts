import { expect, it, test } from 'vitest';
import type { InventoryKind } from '../../../../src/manager/ports.ts';
import { readInventory, removeObject } from '../../../../src/postgres/sql/inventory.ts';
import { ScriptedSql } from '../support/scripted-sql.ts';

const LOCK = "SET LOCAL lock_timeout = '3s';";

it.each<[InventoryKind, string, string[]]>([
  ['publication', 'tide_to_2', ['DROP PUBLICATION IF EXISTS "tide_to_2"']],
  ['published-table', 'tide_to_2.t4_p0', [`${LOCK} ALTER PUBLICATION "tide_to_2" DROP TABLE "tide_data"."t4_p0"`]],
  [
    'subscription',
    'tide_1_2',
    [
      'ALTER SUBSCRIPTION "tide_1_2" DISABLE',
      'ALTER SUBSCRIPTION "tide_1_2" SET (slot_name = NONE)',
      'DROP SUBSCRIPTION "tide_1_2"',
    ],
  ],
  ['origin', 'pg_1', ['select pg_replication_origin_drop($1)']],
  ['replica-table', 't4_p0', [`${LOCK} DROP TABLE IF EXISTS "tide_data"."t4_p0"`]],
  ['foreign-table', 't4_p0_n2', [`${LOCK} DROP FOREIGN TABLE IF EXISTS "tide_remote"."t4_p0_n2"`]],
])('a leftover %s is removed', async (kind, name, statements) => {
  const sql = new ScriptedSql();
  await removeObject(sql, kind, name);
  expect(sql.asked).toEqual(statements);
});

test('a slot that is still read is let go of first', async () => {
  const sql = new ScriptedSql();
  await removeObject(sql, 'slot', 'tide_1_2');
  expect(sql.asked.map((text) => text.match(/pg_(terminate|drop)\w+\(/g))).toEqual([
    ['pg_terminate_backend(', 'pg_drop_replication_slot('],
  ]);
});

test('a server that a hinge needs stays', async () => {
  const sql = new ScriptedSql({ pg_foreign_table: [{ hinge: 'tide_hinge.t4_p0' }] });
  await expect(removeObject(sql, 'server', 'tide_n2')).rejects.toMatchObject({ code: 'SERVER_IN_USE' });
});

test('of a table that is gone already, the note goes', async () => {
  const noted = new ScriptedSql();
  await removeObject(noted, 'parent', '4');
  expect(noted.asked.slice(1)).toEqual(['delete from tide.distributed where tid = $1']);
  const there = new ScriptedSql({ 'relid::regclass': [{ name: 'public."T"' }] });
  await removeObject(there, 'parent', '4');
  expect(there.asked[1]).toBe(`${LOCK} DROP TABLE public."T" CASCADE`);
});

test('every kind is asked for, in an order that does not change', async () => {
  const sql = new ScriptedSql({ pg_publication_tables: [{ name: 'tide_to_2.t4_p0' }] });
  const inventory = await readInventory(sql);
  expect(inventory['published-table']).toEqual(['tide_to_2.t4_p0']);
  expect(inventory.slot).toEqual([]);
  expect(sql.asked).toHaveLength(Object.keys(inventory).length);
  expect(sql.asked.filter((text) => !text.endsWith('order by 1'))).toEqual([]);
});
