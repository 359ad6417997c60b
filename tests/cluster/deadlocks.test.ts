import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { partitionTable } from '../../src/catalog/names.ts';
import type { DataPlane } from '../../src/operations/ports.ts';
import { TIDE_MANAGER } from '../../src/postgres/config.ts';
import { postgresDataPlane } from '../../src/postgres/data-plane.ts';
import { NodeConnections } from '../../src/postgres/sql/client.ts';
import { swingHinge } from '../../src/postgres/sql/hinge.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { inSession } from '../support/session.ts';
import { eventually, holdersOf, keyIn, leaderOf, slackMs, startNodes } from './support/proof.ts';
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

/**
 * Two clients have each a row of their own and want the other's: what became of the two, and how long it
 * took.
 */
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
    expect(tookMs).toBeLessThan(3_000 + slackMs());
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
  /**
   * Ended with 40P01 by pgtide, each with what it was told, and by PostgreSQL: within one server, and on a
   * hot row through postgres_fdw.
   */
  readonly ended = { byUs: [] as string[], byPostgres: 0 };
  readonly failures: string[] = [];

  async run(clients: number, isOver: () => boolean, seen: WaitGraph): Promise<void> {
    await Promise.all(
      Array.from({ length: clients }, (_, n) => this.#client(nodes[n % nodes.length] ?? 0, isOver, seen)),
    );
  }

  async #client(node: number, isOver: () => boolean, seen: WaitGraph): Promise<void> {
    const session = await cluster.sql(node).connect();
    const { rows } = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    while (!isOver()) {
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
    if (code === '40001') this.ended.byPostgres++;
    else if (code !== '40P01') this.failures.push(`${code} ${message}`);
    else if (!/ of node /.test(detail)) this.ended.byPostgres++;
    else {
      this.ended.byUs.push(detail.replaceAll('\n', ' '));
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

async function partitionOf(key: number): Promise<number> {
  const { rows } = await cluster
    .postgres(1)
    .query<{ pid: number }>(
      `SELECT pid FROM generate_series(0, ${PARTITIONS - 1}) pid WHERE satisfies_hash_partition('acct'::regclass, ${PARTITIONS}, pid, $1::bigint)`,
      [key],
    );
  return rows[0]?.pid ?? 0;
}

async function changeLeader(pid: number, to: number): Promise<number> {
  const { operations } = await cluster.admin({ do: 'partition-change-leader', table: 'acct', pid, to });
  return operations[0] ?? 0;
}

async function sum(): Promise<number> {
  const { rows } = await cluster.sql(1).query<{ n: string }>('SELECT sum(n) AS n FROM acct');
  return Number(rows[0]?.n);
}

async function expectNobodyWaits(): Promise<void> {
  for (const node of nodes) {
    const waiting = `SELECT pid, query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND backend_type = 'client backend'`;
    expect((await cluster.manager(node).query(waiting)).rows).toEqual([]);
  }
}

describe('who is in the way of a hinge, or of rows', () => {
  const addressOf = (node: number) => ({ host: '127.0.0.1', port: cluster.node(node).postgresPort });
  let connections: NodeConnections;
  let plane: DataPlane;

  beforeAll(() => {
    connections = new NodeConnections(addressOf, () => true, null);
    plane = postgresDataPlane(connections, addressOf);
  });
  afterAll(() => connections?.close());

  it('an ANALYZE that waits for another node holds only what a hinge leads to, and is named and ended all the same', async () => {
    const pid = await partitionOf(1);
    const { leader, followers } = await holdersOf(cluster, 'acct', pid);
    const bystander = nodes.find((n) => n !== leader && !followers.includes(n)) ?? 0;
    const ref = { tid: acct.tid, pid };
    const hinge = `tide_hinge.${partitionTable(acct.tid, pid)}`;
    const holding = await cluster.manager(leader).connect();
    try {
      await holding.query(`BEGIN; LOCK TABLE ${hinge}`);
      const analyze = cluster
        .sql(bystander)
        .query('ANALYZE acct')
        .then(
          () => undefined,
          (error: Failure) => error.code,
        );
      const inTheWay = async () => (await plane.sessions.lockHolders(bystander, ref)).map((b) => b.query);
      await eventually(async () => expect(await inTheWay()).toContain('ANALYZE acct'));
      const onHinge = `SELECT FROM pg_locks WHERE relation = '${hinge}'::regclass`;
      expect((await cluster.manager(bystander).query(onHinge)).rows).toEqual([]);
      await plane.sessions.endHolders(bystander, ref);
      expect(await analyze).toBe('57P01');
    } finally {
      await holding.query('ROLLBACK');
      holding.release();
    }
  });

  it('a swing whose time runs out between two statements has backed off', async () => {
    const pid = await partitionOf(1);
    const { leader, followers } = await holdersOf(cluster, 'acct', pid);
    const [at = 0] = followers;
    const way = { kind: 'node', node: leader } as const;
    const swing = { tid: acct.tid, pid, from: way, to: way, budgetMs: 100 };
    const late = async () => {
      const ended = `SELECT FROM pg_stat_activity WHERE application_name LIKE 'pgtide manager%' AND state LIKE 'idle in%'`;
      await eventually(async () => expect((await cluster.manager(at).query(ended)).rowCount).toBe(0));
      return true;
    };
    const attempt = await connections.session(at, (sql) => swingHinge(sql, swing, late));
    expect(attempt).toMatchObject({ outcome: 'backed-off', why: 'timeout' });
  });

  it('where nobody may be, people who work as the role of pgtide are ended too, and its own sessions are not', async () => {
    const pid = await partitionOf(1);
    const { followers } = await holdersOf(cluster, 'acct', pid);
    const [at = 0] = followers;
    const ref = { tid: acct.tid, pid };
    const rows = `LOCK TABLE tide_data.${partitionTable(acct.tid, pid)} IN SHARE UPDATE EXCLUSIVE MODE`;
    const session = (name: string) =>
      inSession({ ...addressOf(at), user: TIDE_MANAGER, database: 'tide', application_name: name }, async (client) => {
        await client.query(`BEGIN; ${rows}`);
        const guarded = plane.replicas.setGuard(at, ref, true, 'are-ended').then(
          () => 'set',
          (error: Failure) => error.code,
        );
        const answer = await guarded;
        return [
          answer,
          await client.query('ROLLBACK').then(
            () => 'goes on',
            () => 'ended',
          ),
        ];
      });
    expect(await session('psql')).toEqual(['set', 'ended']);
    expect(await session('pgtide manager')).toEqual(['55P03', 'goes on']);
  });
});

describe('8 clients with random orders of locks on 4 nodes', () => {
  it('no deadlock lasts, nobody is ended without one, a leader changes, and the sums are right', async () => {
    const told = (await deadlockEvents()).length;
    const before = await sum();
    const seen = new WaitGraph(cluster, nodes);
    const load = new Disorder();
    const fromMs = performance.now();
    let hasMoved = false;
    const work = load.run(8, () => performance.now() - fromMs > (hasMoved ? 12_000 : 90_000), seen);
    await sleep(2_000);
    const { leader, followers } = await holdersOf(cluster, 'acct', await partitionOf(1));
    const id = await changeLeader(await partitionOf(1), followers[0] ?? 0);
    const moved = await cluster.waitForOperation(id, undefined, 80_000);
    hasMoved = true;
    await work;
    expect(moved.status).toBe('done');
    expect((await holdersOf(cluster, 'acct', await partitionOf(1))).leader).not.toBe(leader);
    await seen.stop();
    expect(load.failures).toEqual([]);
    expect(seen.failures).toEqual([]);
    expect(load.commits).toBeGreaterThan(10);
    const { byUs, byPostgres } = load.ended;
    expect(byUs.length).toBeGreaterThan(2);
    expect(seen.longestMs).toBeLessThan(3_000 + slackMs());
    const events = (await deadlockEvents()).slice(told);
    expect(byUs.filter((detail) => events.every((e) => !e.text.includes(detail)))).toEqual([]);
    // PostgreSQL may have ended a victim in the moment in which it was chosen.
    expect(events.length - byUs.length).toBeGreaterThanOrEqual(0);
    expect(events.length - byUs.length).toBeLessThanOrEqual(byPostgres);
    expect((await sum()) - before).toBe(load.added);
    await eventually(expectNobodyWaits);
  });
});

describe('clients whose transactions follow one another on a partition without a gap', () => {
  const key = 1;
  let stopped = false;
  const working: Promise<void>[] = [];
  const settings = { 'move.max_pause': '200', 'move.max_pause_limit': '2000' };
  const set = (key: string, value: string) => cluster.admin({ do: 'setting-set', key, value });

  /** Three, each in another third of its transaction. */
  async function begin(seconds: number): Promise<{ transactions: () => number }> {
    stopped = false;
    let transactions = 0;
    const { leader } = await holdersOf(cluster, 'acct', await partitionOf(key));
    const client = async (n: number) => {
      const session = await cluster.sql(leader).connect();
      await sleep((n * seconds * 1_000) / 3);
      while (!stopped) {
        await session.query(`BEGIN; SELECT n FROM acct WHERE id = ${key}; SELECT pg_sleep(${seconds}); COMMIT`);
        transactions++;
      }
      session.release();
    };
    working.push(...[0, 1, 2].map(client));
    await eventually(async () => expect(transactions).toBeGreaterThan(3));
    return { transactions: () => transactions };
  }

  afterEach(async () => {
    stopped = true;
    await Promise.all(working.splice(0));
    for (const [key, value] of Object.entries(settings)) await set(key, value);
  });

  it('a leader changes beside them, with a pause that has grown and is announced', async () => {
    const pid = await partitionOf(key);
    const { followers } = await holdersOf(cluster, 'acct', pid);
    const load = await begin(0.6);
    const grown = async () =>
      (await cluster.admin({ do: 'events' })).filter(
        (e) => e.kind === 'pause-grown' && e.text.startsWith(`${acct.tid}/${pid}:`),
      );
    const texts = new Set<string>();
    const id = await changeLeader(pid, followers[0] ?? 0);
    const before = load.transactions();
    const ended = await cluster.waitForOperation(id, (o) => texts.add(o.waitsFor?.text ?? ''), 90_000);
    expect(load.transactions()).toBeGreaterThan(before);
    expect(ended.status).toBe('done');
    expect((await holdersOf(cluster, 'acct', pid)).leader).toBe(followers[0]);
    const swings = ended.pauses.filter((p) => p.purpose === 'leader' && p.outcome === 'done');
    expect(swings).toHaveLength(1);
    expect(swings[0]?.pauseMs).toBeLessThan(2_000 + slackMs());
    expect(
      [...texts].filter((t) => /of 2000 ms at most \(move\.max_pause_limit\)/.test(t)),
      [...texts].join('\n'),
    ).not.toEqual([]);
    expect((await grown()).at(-1)?.text).toMatch(/tries to turn its hinge .* \d+ ms, of 2000 ms at most/);
  });

  it('beside longer ones than the limit it waits, names them, and ends when they end', async () => {
    await set('move.max_pause', '100');
    await set('move.max_pause_limit', '300');
    const pid = await partitionOf(key);
    const { leader, followers } = await holdersOf(cluster, 'acct', pid);
    await begin(2);
    const id = await changeLeader(pid, followers[0] ?? 0);
    await eventually(async () => {
      const { waitsFor } = await cluster.admin({ do: 'op-show', id });
      expect(waitsFor).toMatchObject({ kind: 'transaction', node: leader, query: expect.stringContaining('pg_sleep') });
    });
    await sleep(5_000);
    expect((await cluster.admin({ do: 'op-show', id })).status).toBe('running');
    stopped = true;
    expect((await cluster.waitForOperation(id, undefined, 60_000)).status).toBe('done');
    const { pauses } = await cluster.admin({ do: 'op-show', id });
    for (const pause of pauses) expect(pause.pauseMs).toBeLessThan(300 + slackMs());
  });
});
