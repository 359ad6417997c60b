import { cpus } from 'node:os';
import { LocalCluster } from '../src/local/local-cluster.ts';
import { type Benchmark, type Figure, median } from './benchmark.ts';
import { type Load, type Measured, pgbench, type Target } from './pgbench.ts';
import { onPlainServer } from './plain-server.ts';

const ROWS = 100_000;
const ROUNDS = 3;
const NODES = 2;
const PARTITIONS = 8;
const TABLE_SQL = 'CREATE TABLE acct (id bigint PRIMARY KEY, amount bigint NOT NULL, filler text NOT NULL)';
const FILL_SQL = `INSERT INTO acct SELECT i, 0, repeat('x', 84) FROM generate_series(1, ${ROWS}) i`;
const PICK = `\\set id random(1, ${ROWS})\n`;
const READ = `${PICK}SELECT amount FROM acct WHERE id = :id;\n`;
const UPDATE = `${PICK}UPDATE acct SET amount = amount + 1 WHERE id = :id;\n`;

const LOADS: readonly (Load & { readonly name: string; readonly aim: string })[] = [
  { name: 'reads, 16 clients', script: READ, clients: 16, seconds: 8, aim: '0.60' },
  { name: 'updates, 16 clients', script: UPDATE, clients: 16, seconds: 8, aim: '0.55' },
  { name: 'reads, 1 client', script: READ, clients: 1, seconds: 4, aim: '150 µs more at most' },
];

/** What it costs to reach a row through any node. */
export const route: Benchmark = {
  name: 'route',
  about: `pgbench -M prepared, one statement by key of ${ROWS} rows, through one of ${NODES} nodes that lead ${PARTITIONS} partitions (durability async), and at one plain PostgreSQL, in turn; the median of ${ROUNDS}`,
  run: async (note) => {
    const cluster = await LocalCluster.create();
    try {
      for (let node = 1; node <= NODES; node++) await cluster.addNode({ flags: [`--workers=${cpus().length}`] });
      await cluster.admin({ do: 'setting-set', key: 'durability', value: 'async' });
      const table = { do: 'table-create', sql: TABLE_SQL, partitions: PARTITIONS, replicas: 1 } as const;
      await cluster.waitForOperation((await cluster.admin(table)).operation);
      await cluster.sql(1).query(FILL_SQL);
      return await onPlainServer(async (port, pool) => {
        await pool.query(TABLE_SQL);
        await pool.query(FILL_SQL);
        const plain = { port, database: 'postgres' };
        const node = { port: Number(cluster.node(1).address.split(':')[1]), database: 'tide' };
        const figures: Figure[] = [];
        for (const load of LOADS) figures.push(...(await compared(plain, node, load, note)));
        return figures;
      });
    } finally {
      await cluster.close();
    }
  },
};

async function compared(
  plain: Target,
  node: Target,
  load: (typeof LOADS)[number],
  note: (text: string) => void,
): Promise<Figure[]> {
  const pairs: { plain: Measured; node: Measured }[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    note(`${load.name}, ${round} of ${ROUNDS}`);
    pairs.push({ plain: await pgbench(plain, load), node: await pgbench(node, load) });
  }
  const of = (what: (pair: (typeof pairs)[number]) => number) => median(pairs.map(what));
  const row = (whose: 'plain' | 'node') =>
    `${Math.round(of((pair) => pair[whose].perSecond))}/s, p50 ${of((pair) => pair[whose].p50Ms).toFixed(2)} ms, p99 ${of((pair) => pair[whose].p99Ms).toFixed(2)} ms`;
  const ratio = of((pair) => pair.node.perSecond / pair.plain.perSecond);
  const moreUs = of((pair) => pair.node.p50Ms - pair.plain.p50Ms) * 1000;
  return [
    { what: `${load.name}: plain`, value: row('plain') },
    { what: `${load.name}: through a node`, value: row('node') },
    {
      what: `${load.name}: ratio, and more at p50 (aim ${load.aim})`,
      value: `${ratio.toFixed(2)}, ${moreUs.toFixed(0)} µs`,
    },
  ];
}
