import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { eventually, keyIn, leaderOf, startNodes } from './support/proof.ts';
import { WaitGraph } from './support/wait-graph.ts';

/** Transactions over several nodes that wait for each other: PostgreSQL's own detector sees one server. */

const PARTITIONS = 8;
const HOT_ROWS = 12;
let cluster: LocalCluster;
let nodes: number[];
let acct: { tid: number; table: string };

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 4);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  acct = await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY, n bigint NOT NULL)', {
    partitions: PARTITIONS,
    replicas: 2,
  });
  await cluster.sql(1).query('INSERT INTO acct SELECT i, 0 FROM generate_series(1, 400) i');
});
afterAll(() => cluster?.close());

interface Failure {
  code?: string;
  message: string;
  detail?: string;
  hint?: string;
  routine?: string;
  severity?: string;
}

/** A row that each of two nodes leads. */
async function twoRows() {
  const first = nodes[0] ?? 0;
  const led = await Promise.all(Array.from({ length: PARTITIONS }, (_, pid) => leaderOf(cluster, 'acct', pid)));
  const [a, b] = [led.indexOf(first), led.findIndex((l) => l !== first)];
  const key = (pid: number) => keyIn(cluster, acct, PARTITIONS, pid);
  return { a: { node: led[a] ?? 0, key: await key(a) }, b: { node: led[b] ?? 0, key: await key(b) } };
}

const add = (client: Pick<pg.PoolClient, 'query'>, key: number) =>
  client.query('UPDATE acct SET n = n + 1 WHERE id = $1', [key]);

async function deadlockEvents() {
  return (await cluster.admin({ do: 'events' })).filter((e) => e.kind === 'deadlock');
}

/** Two clients have each a row of their own and want the other's: what became of the two, and how long it took. */
async function cross(pool: (node: number) => pg.Pool) {
  const { a, b } = await twoRows();
  const [one, two] = [await pool(a.node).connect(), await pool(b.node).connect()];
  try {
    await one.query('BEGIN');
    await add(one, a.key);
    await sleep(50);
    await two.query('BEGIN');
    await add(two, b.key);
    const blocked = add(one, b.key).then(
      () => null,
      (error: Failure) => error,
    );
    const beganMs = performance.now();
    const closing = add(two, a.key).then(
      () => null,
      (error: Failure) => error,
    );
    const victim = await closing;
    const tookMs = performance.now() - beganMs;
    await two.query('ROLLBACK');
    const survivor = await blocked;
    await one.query('ROLLBACK');
    return { victim, survivor, tookMs, a, b };
  } finally {
    one.release();
    two.release();
  }
}

describe('two transactions over two nodes, in opposite order', () => {
  it('the younger ends with 40P01 within 2 s, and the other goes on', async () => {
    const { victim, survivor, tookMs, a, b } = await cross((node) => cluster.sql(node));
    expect(survivor).toBeNull();
    expect(victim).toMatchObject({
      code: '40P01',
      message: 'deadlock detected',
      severity: 'ERROR',
      routine: 'DeadLockReport',
      hint: expect.stringContaining('Repeat the transaction'),
    });
    expect(victim?.detail).toMatch(
      /^Process \d+ of node \d waits on node \d \(process \d+ there\) for ShareLock on transaction \d+, acct partition \d; blocked by process \d+ of node \d\.\n/,
    );
    for (const { node } of [a, b]) expect(victim?.detail).toContain(`of node ${node} `);
    expect(tookMs).toBeLessThan(3_000);
    const [event] = (await deadlockEvents()).slice(-1);
    expect(event).toMatchObject({
      node: b.node,
      text: expect.stringContaining((victim?.detail ?? '').replaceAll('\n', ' ')),
    });
  });

  it('on the PostgreSQL port it is the cancel that it is', async () => {
    const { victim, survivor } = await cross((node) => cluster.postgres(node));
    expect(survivor).toBeNull();
    expect(victim).toMatchObject({ code: '57014' });
  });

  it('the session goes on after it', async () => {
    const { b } = await twoRows();
    expect(await add(cluster.sql(b.node), b.key)).toMatchObject({ rowCount: 1 });
  });
});

/** Clients that add one to some of a few rows, in random order, in transactions and in single statements. */
class Disorder {
  added = 0;
  commits = 0;
  /** Ended with 40P01 by pgtide, and by PostgreSQL within one server. */
  readonly ended = { byUs: 0, byPostgres: 0 };
  readonly failures: string[] = [];

  async run(clients: number, forMs: number, seen: WaitGraph): Promise<void> {
    const untilMs = performance.now() + forMs;
    await Promise.all(
      Array.from({ length: clients }, (_, n) => this.#client(nodes[n % nodes.length] ?? 0, untilMs, seen)),
    );
  }

  async #client(node: number, untilMs: number, seen: WaitGraph): Promise<void> {
    const session = await cluster.sql(node).connect();
    const { rows } = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    while (performance.now() < untilMs) {
      const keys = someRows();
      try {
        await (Math.random() < 0.3 ? addToAll(session, keys) : addInTurn(session, keys));
        this.added += keys.length;
        this.commits++;
      } catch (error) {
        this.#count(error as Failure, seen.saw(node, rows[0]?.pid ?? 0, 5_000));
        await session.query('ROLLBACK');
      }
    }
    session.release();
  }

  #count({ code, detail = '', message }: Failure, wasSeen: boolean): void {
    // What a hot row gives through postgres_fdw.
    if (code === '40001') return;
    if (code !== '40P01') this.failures.push(`${code} ${message}`);
    else if (!/ of node /.test(detail)) this.ended.byPostgres++;
    else {
      this.ended.byUs++;
      if (!wasSeen) this.failures.push(`in no deadlock: ${detail}`);
    }
  }
}

function someRows(): number[] {
  const keys = Array.from({ length: HOT_ROWS }, (_, n) => ({ key: n + 1, place: Math.random() }));
  const count = 2 + Math.floor(Math.random() * 3);
  return keys
    .sort((x, y) => x.place - y.place)
    .slice(0, count)
    .map(({ key }) => key);
}

async function addInTurn(session: pg.PoolClient, keys: readonly number[]): Promise<void> {
  await session.query('BEGIN');
  for (const key of keys) await add(session, key);
  await session.query('COMMIT');
}

const addToAll = (session: pg.PoolClient, keys: readonly number[]) =>
  session.query('UPDATE acct SET n = n + 1 WHERE id = ANY($1)', [keys]);

async function sum(): Promise<number> {
  const { rows } = await cluster.sql(1).query<{ n: string }>('SELECT sum(n) AS n FROM acct');
  return Number(rows[0]?.n);
}

async function expectNobodyWaits(): Promise<void> {
  for (const node of nodes) {
    const waiting = `SELECT pid, query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'`;
    expect((await cluster.postgres(node).query(waiting)).rows).toEqual([]);
  }
}

describe('8 clients with random orders of locks on 4 nodes', () => {
  it('no deadlock lasts, nobody is ended without one, and the sums are right', async () => {
    const told = (await deadlockEvents()).length;
    const before = await sum();
    const seen = new WaitGraph(cluster, nodes);
    const load = new Disorder();
    await load.run(8, 12_000, seen);
    await seen.stop();
    expect(load.failures).toEqual([]);
    expect(seen.failures).toEqual([]);
    expect(load.commits).toBeGreaterThan(10);
    expect(load.ended.byUs).toBeGreaterThan(2);
    expect(seen.longestMs).toBeLessThan(3_000);
    expect((await deadlockEvents()).length - told).toBe(load.ended.byUs);
    expect((await sum()) - before).toBe(load.added);
    await eventually(expectNobodyWaits);
  });
});
