import { expect, test } from 'vitest';
import { readStatement } from '../../../../src/gateway/admin/read.ts';
import { quote } from '../../../../src/gateway/admin/reading.ts';

const looks = (relations: string[], text: string) => ({ kind: 'look', relations, text });
const does = (command: object, gives: string) => ({ kind: 'do', work: { command }, gives });
const TOLD = 'nothing';
const STARTED = 'operation';
const PLANNED = 'plan';
const set = (key: string, value: string) => does({ do: 'setting-set', key, value }, TOLD);

test.for<[string, object]>([
  ['SHOW NODES', looks(['nodes'], 'SELECT * FROM tide.nodes ORDER BY id')],
  ['  show\n\tnodes ; ', looks(['nodes'], 'SELECT * FROM tide.nodes ORDER BY id')],
  ['/* a; * b */ SHOW /* c */ NODES -- d', looks(['nodes'], 'SELECT * FROM tide.nodes ORDER BY id')],
  ['-- who is there?\nSHOW NODES;', looks(['nodes'], 'SELECT * FROM tide.nodes ORDER BY id')],
  ['SHOW TABLES', looks(['tables'], 'SELECT * FROM tide.tables ORDER BY schema, name')],
  ['SHOW OPERATIONS', looks(['operations'], 'SELECT * FROM tide.operations ORDER BY id')],
  ['SHOW EVENTS', looks(['events'], 'SELECT * FROM tide.events ORDER BY seq')],
  ['SHOW PAUSES', looks(['pauses'], 'SELECT * FROM tide.pauses ORDER BY at')],
  ['SHOW LEFTOVERS', looks(['leftovers'], 'SELECT * FROM tide.leftovers ORDER BY node, kind, name')],
  ['SHOW ROUTES', looks(['partitions'], 'SELECT * FROM tide.routes ORDER BY table_name, pid')],
  ['SHOW SETTINGS', looks(['settings'], 'SELECT * FROM tide.settings ORDER BY key')],
  ['SHOW CLUSTER SETTINGS', looks(['settings'], 'SELECT * FROM tide.settings ORDER BY key')],
  ['SHOW ALL CLUSTER SETTINGS', looks(['settings'], 'SELECT * FROM tide.settings ORDER BY key')],
  ['SHOW PARTITIONS', looks(['partitions'], 'SELECT * FROM tide.partitions ORDER BY table_name, pid, role DESC, node')],
  ...['Shop.acct', 'TABLE shop.acct', '"shop"."acct"'].map((name): [string, object] => [
    `SHOW PARTITIONS FROM ${name}`,
    looks(
      ['partitions'],
      `SELECT p.* FROM tide.known('table', 'shop.acct', EXISTS (SELECT FROM tide.partitions WHERE table_name = 'shop.acct')) k LEFT JOIN tide.partitions p ON p.table_name = k ORDER BY table_name, pid, role DESC, node`,
    ),
  ]),
  [
    `SHOW PARTITIONS FROM public."it's"`,
    looks(
      ['partitions'],
      `SELECT p.* FROM tide.known('table', 'it''s', EXISTS (SELECT FROM tide.partitions WHERE table_name = 'it''s')) k LEFT JOIN tide.partitions p ON p.table_name = k ORDER BY table_name, pid, role DESC, node`,
    ),
  ],
  [
    'SHOW CLUSTER SETTING move.max_pause',
    looks(
      ['settings'],
      `SELECT s.value AS "move.max_pause" FROM tide.known('setting', 'move.max_pause', EXISTS (SELECT FROM tide.settings WHERE key = 'move.max_pause')) k LEFT JOIN tide.settings s ON s.key = k`,
    ),
  ],
  ['SET CLUSTER SETTING rebalance.auto = off', set('rebalance.auto', 'off')],
  ["set cluster setting Rebalance.Auto TO 'off';", set('rebalance.auto', 'off')],
  ['SET CLUSTER SETTING move.max_pause=100', set('move.max_pause', '100')],
  ['SET CLUSTER SETTING move.max_pause = -1', set('move.max_pause', '-1')],
  ["SET CLUSTER SETTING x = 'default'", set('x', 'default')],
  ["SET CLUSTER SETTING x = 'it''s'", set('x', "it's")],
  ['SET CLUSTER SETTING x = DEFAULT', { kind: 'do', work: { reset: 'x' }, gives: TOLD }],
  ['RESET CLUSTER SETTING move.max_pause', { kind: 'do', work: { reset: 'move.max_pause' }, gives: TOLD }],
  ['ALTER CLUSTER SCALE OUT', does({ do: 'scale-out' }, STARTED)],
  ['ALTER CLUSTER DECOMMISSION NODE 3', does({ do: 'node-decommission', nodes: [3] }, STARTED)],
  ['ALTER CLUSTER DECOMMISSION NODES 3, 4;', does({ do: 'node-decommission', nodes: [3, 4] }, STARTED)],
  ['ALTER CLUSTER RECOMMISSION 3', does({ do: 'node-recommission', nodes: [3] }, STARTED)],
  ['ALTER CLUSTER DRAIN NODE 3', does({ do: 'node-drain', node: 3 }, STARTED)],
  ['ALTER CLUSTER UNDRAIN NODE 3', does({ do: 'node-undrain', node: 3 }, STARTED)],
  ['ALTER CLUSTER CANCEL OPERATION 17', does({ do: 'op-cancel', id: 17 }, STARTED)],
  ['EXPLAIN SCALE OUT', does({ do: 'plan', rebalance: true }, PLANNED)],
  ['EXPLAIN SCALE OUT BY 2 ', does({ do: 'plan', add: 2 }, PLANNED)],
  ['EXPLAIN SCALE IN NODE 3, 4', does({ do: 'plan', remove: [3, 4] }, PLANNED)],
  ['EXPLAIN DECOMMISSION 3', does({ do: 'plan', remove: [3] }, PLANNED)],
  ['EXPLAIN (ROUTE) SELECT 1', { kind: 'route', statement: 'SELECT 1' }],
  ['explain\n( route ) DELETE FROM t', { kind: 'route', statement: 'DELETE FROM t' }],
  ['EXPLAIN REBALANCE', does({ do: 'plan', rebalance: true }, PLANNED)],
])('%s', ([text, expected]) => {
  expect(readStatement(text)).toEqual(expected);
});

test.for([
  'SHOW CLUSTER SETTING',
  'SHOW CLUSTER SETTING a b',
  'SHOW PARTITIONS FROM',
  "SHOW PARTITIONS FROM 'acct'",
  'SET CLUSTER SETTING',
  'SET CLUSTER SETTING x',
  'SET CLUSTER SETTING x = ',
  'SET CLUSTER SETTING x = $1',
  'SET CLUSTER SETTING x = 1 2',
  "SET CLUSTER SETTING x = E'a'",
  'RESET CLUSTER SETTING',
  'ALTER CLUSTER',
  'ALTER CLUSTER EXPLODE',
  'ALTER CLUSTER SCALE OUT 3',
  'ALTER CLUSTER DECOMMISSION NODE',
  'ALTER CLUSTER DECOMMISSION NODE three',
  'ALTER CLUSTER DECOMMISSION NODE 3,',
  'ALTER CLUSTER DRAIN NODE 3, 4',
  'ALTER CLUSTER DRAIN NODE 0',
  'ALTER CLUSTER CANCEL OPERATION 99999999999',
  'EXPLAIN SCALE',
  'EXPLAIN (ROUTE, ANALYZE) SELECT 1',
  'EXPLAIN SCALE OUT BY',
  'EXPLAIN DECOMMISSION',
])('%s is told to be wrong, with what would be right', (text) => {
  expect(readStatement(text)).toMatchObject({
    kind: 'wrong',
    text: expect.stringMatching(
      /^CALL tide\.refuse\('42601', '.+', 'code: SYNTAX', '.*(CLUSTER|SCALE|PARTITIONS|ROUTE).+'\)$/,
    ),
  });
});

test.for([
  'SELECT 1',
  '',
  'SHOW search_path',
  'SHOW ALL',
  'SHOW nodes_max',
  'SHOW "nodes"',
  'SHOW NODES OF THIS',
  'SHOW constructor',
  'SHOW __proto__',
  'SHOW NODES; SELECT 1',
  'SHOW tide.nodes_max',
  'SET search_path = tide',
  "SET cluster = 'on'",
  'RESET ALL',
  'ALTER TABLE t ADD c int',
  'EXPLAIN SELECT 1',
  'EXPLAIN (ANALYZE) SELECT 1',
  'UPDATE tide SET nodes = 1',
  'SELECT tide.attaches()',
  'SELECT * FROM tide.nodes_of_mine',
])('%s is PostgreSQL’s', (text) => {
  expect(readStatement(text)).toBeNull();
});

test.for<[string, string[]]>([
  ['SELECT count(*) FROM tide.nodes', ['nodes']],
  ['select * from TIDE . Partitions p join "tide"."nodes" n on n.id = p.node', ['partitions', 'nodes']],
  ['SELECT * FROM tide.routes, tide.partitions', ['partitions']],
  ['SHOW NODES; SELECT * FROM tide.events', ['events']],
  ['EXPLAIN SELECT * FROM tide.settings', ['settings']],
  ['INSERT INTO t SELECT id FROM tide.operations WHERE id = $1', ['operations']],
])('%s reads what is so now', ([text, relations]) => {
  expect(readStatement(text)).toEqual(looks(relations, text));
});

test('what is quoted means the same whatever backslashes mean', () => {
  expect(quote("a'b")).toBe("'a''b'");
  expect(quote("a\\'b")).toBe(" E'a\\\\''b'");
});
