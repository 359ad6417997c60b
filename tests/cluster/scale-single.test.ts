import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { Load } from './support/load.ts';
import { eventually, expectNothingLost, expectSettled, leaderOf, startNodes } from './support/proof.ts';
import { startTide, tide } from './support/tide.ts';

/**
 * A single-replica cluster: old tables stay where they are until `tide scale out` moves them, which the KWDB
 * document cannot.
 */

let cluster: LocalCluster;
let load: Load;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  const nodes = await startNodes(cluster, 2, ['--single-replica', '--min-nodes=1']);
  load = await Load.prepare(cluster, { table: 'acct', nodes, partitions: 6, replicas: 1, writers: 2, readers: 1 });
  load.start();
});
afterAll(async () => {
  await load?.stop();
  await cluster?.close();
});

async function replicasOf(table: string, node: number): Promise<number> {
  return (await cluster.admin({ do: 'partition-ls', table })).filter((r) => r.node === node).length;
}

/** All kinds of data that only the node has on which they were made. */
const FILL = [
  'CREATE TABLE plain AS SELECT g AS id FROM generate_series(1, 3) g',
  'CREATE UNLOGGED TABLE fast AS SELECT 1 AS id',
  'CREATE TABLE split (id int) PARTITION BY RANGE (id)',
  'CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM (0) TO (10)',
  'INSERT INTO split VALUES (5)',
  'CREATE MATERIALIZED VIEW seen AS SELECT id FROM plain',
  'CREATE SCHEMA "Od d"',
  `CREATE TABLE "Od d"."na""me" AS SELECT repeat('x', 100) AS x FROM generate_series(1, 20000)`,
  "CREATE SEQUENCE drawn; SELECT nextval('drawn')",
  "SELECT lo_from_bytea(0, '\\x01')",
  // None of these is anything.
  'CREATE TABLE empty (id serial)',
  'CREATE SEQUENCE fresh',
  'CREATE VIEW looks AS SELECT * FROM plain',
  'CREATE TEMP TABLE gone AS SELECT 1 AS id',
  'CREATE TABLE cleared AS SELECT 1 AS id; DELETE FROM cleared',
];

const LOCAL = [
  'elsewhere.public.there table 2',
  'tide.. large objects 1',
  'tide.Od d.na"me table about',
  'tide.public.drawn sequence null',
  'tide.public.fast table 1',
  'tide.public.plain table 3',
  'tide.public.seen materialized view 3',
  'tide.public.split_1 table 1',
].sort();

const keyOf = (d: { database: string; schema: string; name: string; kind: string; rows: number; estimated: boolean }) =>
  `${d.database}.${d.schema}.${d.name} ${d.kind} ${d.estimated ? 'about' : d.rows}`;

async function fillNode2(): Promise<void> {
  const session = await cluster.sql(2).connect();
  for (const statement of FILL) await session.query(statement);
  session.release(true);
  await inDatabase('tide', 'CREATE DATABASE elsewhere');
  await inDatabase('elsewhere', 'CREATE TABLE there AS SELECT generate_series(1, 2) AS id');
}

async function inDatabase(database: string, statement: string): Promise<void> {
  const client = new Client({ host: '127.0.0.1', port: cluster.node(2).postgresPort, user: 'tide_manager', database });
  await client.connect();
  await client.query(statement);
  await client.end();
}

async function emptyNode2(): Promise<void> {
  const statements = [
    'DROP TABLE plain, fast, split, empty, cleared CASCADE',
    'DROP SCHEMA "Od d" CASCADE',
    'DROP SEQUENCE drawn, fresh',
    'SELECT lo_unlink(oid) FROM pg_largeobject_metadata',
  ];
  for (const statement of statements) await cluster.sql(2).query(statement);
  await inDatabase('tide', 'DROP DATABASE elsewhere');
}

describe('a single-replica cluster', () => {
  it('gives a node that joins new tables only', async () => {
    await cluster.addNode({ flags: ['--single-replica'] });
    load.nodes.push(3);
    await createTable(cluster, 'CREATE TABLE later (id bigint PRIMARY KEY)', { partitions: 6 });
    expect(await replicasOf('later', 3)).toBe(2);
    expect((await cluster.admin({ do: 'table-ls' })).map((t) => t.replicas)).toEqual([1, 1]);
    const settings = await cluster.admin({ do: 'setting-ls' });
    expect(settings.find((s) => s.key === 'rebalance.auto')?.value).toBe('off');
    expect(await replicasOf('acct', 3)).toBe(0);
    expect((await cluster.admin({ do: 'op-ls', all: true })).filter((o) => o.kind === 'rebalance')).toEqual([]);
  });

  it('spreads old tables when it is asked to', async () => {
    expect(await tide(cluster, 3, 'scale', 'out')).toMatchObject({ status: 0 });
    expect(await replicasOf('acct', 3)).toBe(2);
  });

  it('refuses to take along what no other node has, and names it', async () => {
    load.nodes = [1, 3];
    await eventually(async () => expect(load.done.counts).toBeGreaterThan(10));
    await fillNode2();
    const { address } = cluster.node(2);
    for (const args of [
      ['scale', 'in', address],
      ['scale', 'in', address, '--dry-run', '--checks=skip'],
      ['node', 'decommission', '2', '--dry-run'],
      ['plan', '--remove=2'],
    ]) {
      const ran = await tide(cluster, 1, ...args, '--format=json');
      expect(ran, args.join(' ')).toMatchObject({ status: 1, stdout: '' });
      const { code, details } = JSON.parse(ran.stderr);
      expect(code, args.join(' ')).toBe('LOCAL_TABLES');
      expect(details).toMatchObject({ node: 2, count: LOCAL.length });
      expect(details.found.map(keyOf).sort()).toEqual(LOCAL);
    }
    const { stderr } = await tide(cluster, 1, 'node', 'decommission', '2');
    expect(stderr).toMatch(
      /^ERROR: node 2 holds .+ and \d+ more\nhint: .+--abandon-local-tables.+\ncode: LOCAL_TABLES\n(?: {2}.+\n)+$/s,
    );
    const [sentence = '', , , ...listed] = stderr.trimEnd().split('\n');
    expect(sentence.length).toBeLessThan(600);
    expect(listed).toHaveLength(LOCAL.length);
    const named = await tide(
      cluster,
      1,
      'scale',
      'in',
      address,
      '--dry-run',
      '--abandon-local-tables',
      '--format=json',
    );
    expect(named).toMatchObject({ status: 0 });
    expect(JSON.parse(named.stdout).localData.map(keyOf).sort()).toEqual(LOCAL);
    expect(named.stderr).toContain('warning: node 2 takes along what no other node has: ');
  });

  it('sees what somebody has locked, and what is filled behind its back', async () => {
    await emptyNode2();
    const session = await cluster.sql(2).connect();
    try {
      await session.query('CREATE TABLE held (id int)');
      await session.query('INSERT INTO held VALUES (1)');
      await session.query('BEGIN; LOCK TABLE held');
      const ran = await tide(cluster, 1, 'node', 'decommission', '2');
      expect(ran.stderr).toContain('held (in use, not counted)');
      await session.query('TRUNCATE held; COMMIT');
      const begun = await cluster.admin({ do: 'node-decommission', nodes: [2] });
      // The preflight has seen nothing; the moves take longer than this.
      await session.query('INSERT INTO held VALUES (1)');
      await eventually(async () => {
        const { waitsFor } = await cluster.admin({ do: 'op-show', id: begun.operation ?? 0 });
        expect(waitsFor).toMatchObject({ kind: 'local-tables', node: 2 });
        expect(waitsFor?.text).toContain('held (1 row, 8.00 KiB)');
      }, 60_000);
      expect((await cluster.admin({ do: 'node-status' })).find((n) => n.id === 2)?.state).toBe('decommissioning');
    } finally {
      session.release(true);
    }
  });

  it('gives up a node with all its data where somebody says so, and stops it', async () => {
    const { address } = cluster.node(2);
    const given = await tide(cluster, 1, 'node', 'decommission', '2', '--abandon-local-tables', '--wait=none');
    expect(given).toMatchObject({ status: 0 });
    expect(given.stderr).toContain('warning: node 2 takes along what no other node has: held (1 row, 8.00 KiB)');
    const ran = await tide(cluster, 1, 'scale', 'in', address);
    expect(ran).toMatchObject({ status: 0 });
    expect(ran.stdout).toContain(`${address} has no data and is stopped`);
    expectGone(2);
    expect(await replicasOf('acct', 2)).toBe(0);
    expect(await tide(cluster, 1, 'scale', 'in', address)).toMatchObject({
      status: 0,
      stdout: `${address} has no data and does not run\n`,
    });
  });

  it('finishes a scale-in whose command was killed, whenever that was', async () => {
    const { id, address } = await cluster.addNode({ flags: ['--single-replica'] });
    expect(
      await tide(cluster, 1, 'partition', 'migrate', 'acct', '0', String(await leaderOf(cluster, 'acct', 0)), `n${id}`),
    ).toMatchObject({ status: 0 });
    const kinds = new Set<string>();
    for (const moment of ['journaled', 'left'] as const) {
      const child = startTide(cluster, 1, 'scale', 'in', address);
      await eventually(async () => {
        const row = (await cluster.admin({ do: 'node-status' })).find((n) => n.id === id);
        expect(row?.state).toMatch(moment === 'left' ? /^decommissioned$/ : /^decommission/);
      }, 60_000);
      child.kill('SIGKILL');
      kinds.add(moment);
    }
    expect(kinds.size).toBe(2);
    expect(await tide(cluster, 1, 'scale', 'in', address)).toMatchObject({ status: 0 });
    expectGone(id);
    const ops = await cluster.admin({ do: 'op-ls', all: true });
    expect(ops.filter((o) => o.kind === 'decommission' && o.subject === `node ${id}`).map((o) => o.status)).toEqual([
      'done',
    ]);
  });

  it('lost nothing and left nothing behind', async () => {
    await load.stop();
    await expectNothingLost(cluster, load, [1, 3]);
    await expectSettled(cluster, [1, 3]);
  });

  it('is gone when tide quit says so: its store starts again at once', async () => {
    for (let i = 0; i < 2; i++) {
      expect(await tide(cluster, 3, 'quit')).toMatchObject({ status: 0, stdout: 'ok\n', stderr: '' });
      expectGone(3);
      await cluster.node(3).restart();
    }
  });
});

/** Without waiting for it. */
function expectGone(id: number): void {
  expect(cluster.node(id).isRunning, `process of node ${id}`).toBe(false);
  expect(cluster.node(id).postgresProcessId, `PostgreSQL of node ${id}`).toBeNull();
}
