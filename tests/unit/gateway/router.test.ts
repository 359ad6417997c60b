import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { must } from '../../../src/core/assert.ts';
import { Router } from '../../../src/gateway/router.ts';
import type { HomeTable, HomeTables } from '../../../src/gateway/servers/home-tables.ts';
import type { Topology, TopologyTable } from '../../../src/routing/topology.ts';
import { loadParser } from '../../../src/sql/parser.ts';
import { TABLES } from '../sql/tables.ts';

/**
 * Which statements are executed elsewhere depends on what home says of tables, and on where a session
 * looks.
 */

beforeAll(loadParser);

const PUBLIC = ['pg_catalog', 'public'];
const READ = 'SELECT name FROM acct WHERE id = $1';
const WRITE = 'UPDATE acct SET name = $2 WHERE id = $1';
const acct = must(TABLES[0], 'acct');
const elsewhere: TopologyTable = { ...acct, tid: 40, schema: 'app' };

let router: Router;
beforeEach(() => {
  router = new Router();
  router.use(topologyOf(acct, elsewhere), home());
});

function topologyOf(...tables: TopologyTable[]): Topology {
  return { revision: 1, nodes: new Map(), tables: new Map(tables.map((table) => [table.tid, table])) };
}

function home(table: Partial<HomeTable> = {}, more: Partial<HomeTables> = {}): HomeTables {
  const all = { oid: 20_000, isSameEverywhere: true, mayRead: true, mayWrite: true };
  const tables = new Map([4, 40].map((tid) => [tid, { ...all, oid: 20_000 + tid, ...table }]));
  return { tables, others: new Map(), userNames: new Set(), ...more };
}

const tidOf = (text: string, schemas = PUBLIC, types: number[] = []) => router.route(text, types, schemas)?.point.tid;

test('a statement by key goes to the hinge of its partition, on the node that leads it', () => {
  const route = must(router.route(READ, [20], PUBLIC), 'route');
  const key = { bytes: Buffer.from('5'), start: 0, end: 1, isBinary: false };
  const place = must(route.place(key), 'place');
  expect(place.node).toBe(1);
  const { hinge, statement } = route.at(place.pid);
  expect(hinge).toBe(`tide_hinge.t4_p${place.pid}`);
  expect(statement.text).toBe(`SELECT name FROM ${hinge} AS "acct" WHERE id = $1`);
  expect(route.at(place.pid).statement).toBe(statement);
  expect({ oid: route.oid, isOneRow: route.isOneRow }).toEqual({ oid: 20_004, isOneRow: true });
});

test('a parameter whose type is a user’s, or is compared otherwise, keeps it at home', () => {
  expect([[], [0], [20], [23]].map((types) => tidOf(READ, PUBLIC, types))).toEqual([4, 4, 4, 4]);
  expect([[16_500], [701]].map((types) => tidOf(READ, PUBLIC, types))).toEqual([undefined, undefined]);
});

describe('names', () => {
  test('are looked for in the schemas of the session, in order', () => {
    expect(tidOf(READ, ['pg_catalog', 'app', 'public'])).toBe(40);
    expect(tidOf(READ, ['pg_catalog', 'public', 'app'])).toBe(4);
    expect(tidOf(READ, ['pg_catalog'])).toBeUndefined();
    expect(tidOf('SELECT name FROM app.acct WHERE id = $1')).toBe(40);
  });

  test('may be another relation’s, which is in front of the table', () => {
    router.use(topologyOf(acct), home({}, { others: new Map([['acct', new Set(['mine'])]]) }));
    expect(tidOf(READ, ['pg_catalog', 'mine', 'public'])).toBeUndefined();
    expect(tidOf(READ, ['pg_catalog', 'public', 'mine'])).toBe(4);
  });

  test('of functions and operators are PostgreSQL’s only where nobody has made others', () => {
    const statements = [
      'SELECT upper(name) FROM acct WHERE id = $1',
      "SELECT name || 'a' FROM acct WHERE id = $1",
      'SELECT name FROM acct WHERE id = $1 AND balance BETWEEN 1 AND 2',
      'SELECT CASE name WHEN $2 THEN 1 END FROM acct WHERE id = $1',
    ];
    expect(statements.map((text) => tidOf(text))).toEqual([4, 4, 4, 4]);
    for (const [i, name] of ['upper', '||', '<=', '='].entries()) {
      router.use(topologyOf(acct), home({}, { userNames: new Set([name]) }));
      expect(tidOf(must(statements[i], 'statement')), name).toBeUndefined();
    }
  });
});

test('rights, types and defaults: home says what may be done elsewhere', () => {
  router.use(topologyOf(acct), home({ mayWrite: false }));
  expect([tidOf(READ), tidOf(WRITE)]).toEqual([4, undefined]);
  router.use(topologyOf(acct), home({ mayRead: false, mayWrite: false }));
  expect(tidOf(READ)).toBeUndefined();
  router.use(topologyOf(acct), home({ isSameEverywhere: false }));
  expect(tidOf(READ)).toBeUndefined();
  router.use(topologyOf(acct), { ...home(), tables: new Map() });
  expect(tidOf(READ)).toBeUndefined();
});

test('what was found out counts until a table, or what home says of it, changes', () => {
  const { generation } = router;
  const moved = { ...acct, partitions: acct.partitions.map((p) => ({ ...p, leader: 2, epoch: 2 })) };
  const said = home();
  router.use(topologyOf(moved, elsewhere), said);
  expect(router.generation).toBe(generation + 1);
  router.use(topologyOf(moved, elsewhere), said);
  expect(router.generation).toBe(generation + 1);
  const key = { bytes: Buffer.from('5'), start: 0, end: 1, isBinary: false };
  expect(router.route(READ, [], PUBLIC)?.place(key)?.node).toBe(2);
  router.use(topologyOf({ ...moved, primaryKey: ['id', 'name'] }), said);
  expect(router.generation).toBe(generation + 2);
  expect(router.route(READ, [], PUBLIC)?.isOneRow).toBe(false);
});

test('what home has said long ago still tells tables from others, and routes nothing', () => {
  router.use(topologyOf(acct), null);
  expect({ isFresh: router.isFresh, knowsTables: router.knowsTables }).toEqual({ isFresh: false, knowsTables: true });
  const empty = new Router();
  empty.use(topologyOf(acct), null);
  expect(empty.knowsTables).toBe(false);
  expect(empty.isUsers('lower')).toBe(true);
});

test('a text that is very long, or none, is executed at home', () => {
  expect(tidOf(`${READ} ${' '.repeat(20_000)}`)).toBeUndefined();
  expect(tidOf('SELECT')).toBeUndefined();
  for (let i = 0; i < 6_000; i++) router.route(`SELECT ${i}`, [], PUBLIC);
  expect(tidOf(READ)).toBe(4);
});
