import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { OperationResult } from '../../src/api/results.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { Load } from './support/load.ts';
import {
  eventually,
  expectNothingLost,
  expectReplicasEqual,
  expectSettled,
  holdersOf,
  keyIn,
  slackMs,
  startNodes,
} from './support/proof.ts';

/** docs/spec/moves.md, M7: what is promised to a transaction that is open while its partition moves. */

const PARTITIONS = 4;
const BUDGET_MS = 200;
let cluster: LocalCluster;
let nodes: number[];
let acct: { tid: number; table: string };
const open = new Set<pg.PoolClient>();

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  acct = await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY, value text NOT NULL)', {
    partitions: PARTITIONS,
    replicas: 2,
  });
  await createTable(cluster, 'CREATE TABLE other (id bigint PRIMARY KEY, value text NOT NULL)', {
    partitions: 4,
    replicas: 2,
  });
  await cluster.sql(1).query("INSERT INTO other SELECT n, 'first' FROM generate_series(1, 400) n");
});
afterEach(async () => {
  for (const client of open) client.release(true);
  open.clear();
});
afterAll(() => cluster?.close());

/** A session with a transaction open, through the node's listen port. */
async function begin(node: number, level: string): Promise<pg.PoolClient> {
  const client = await cluster.sql(node).connect();
  open.add(client);
  await client.query(`BEGIN ISOLATION LEVEL ${level}`);
  return client;
}

async function seen(client: Pick<pg.PoolClient, 'query'>, id: number): Promise<string | undefined> {
  const { rows } = await client.query<{ value: string }>('SELECT value FROM acct WHERE id = $1', [id]);
  expect(rows.length).toBeLessThanOrEqual(1);
  return rows[0]?.value;
}

async function show(id: number): Promise<OperationResult> {
  return await cluster.admin({ do: 'op-show', id });
}

async function waiting(id: number, pattern: RegExp): Promise<OperationResult> {
  let shown = await show(id);
  await eventually(async () => {
    shown = await show(id);
    expect(shown.waitsFor?.text).toMatch(pattern);
  }, 15_000);
  return shown;
}

async function expectEverywhere(id: number, value: string): Promise<void> {
  for (const node of nodes) expect(await seen(cluster.sql(node), id), `through node ${node}`).toBe(value);
}

/**
 * The next partition, a fresh row in it, a key that is free yet, its leader, its follower, and the node that
 * has no replica.
 */
async function place() {
  const pid = placed % PARTITIONS;
  const { leader: source, followers } = await holdersOf(cluster, 'acct', pid);
  const target = followers[0] ?? 0;
  const third = nodes.find((n) => n !== source && n !== target) ?? 0;
  const key = await keyIn(cluster, acct, PARTITIONS, pid, ++placed * 100_000);
  const added = await keyIn(cluster, acct, PARTITIONS, pid, key + 1);
  await cluster.sql(source).query("INSERT INTO acct VALUES ($1, 'first')", [key]);
  return { pid, source, target, third, key, added };
}

let placed = 0;
const roles = ['source', 'target', 'third'] as const;
const levels = ['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'] as const;

async function changeLeader(pid: number, to: number): Promise<number> {
  const { operations } = await cluster.admin({ do: 'partition-change-leader', table: 'acct', pid, to });
  return operations[0] ?? 0;
}

/** Who a client's transaction is on a node: itself, or what came from its node. */
const userOn = (
  at: Record<(typeof roles)[number], number>,
  through: (typeof roles)[number],
  on: 'source' | 'target',
) => (at[through] === at[on] ? 'tide' : 'tide_peer');

/** The catalog has the new leader, whether or not the operation has ended. */
async function swung(pid: number, to: number): Promise<void> {
  await eventually(async () => expect((await holdersOf(cluster, 'acct', pid)).leader).toBe(to));
}

const update = (client: Pick<pg.PoolClient, 'query'>, key: number, value: string) =>
  client.query('UPDATE acct SET value = $2 WHERE id = $1', [key, value]);

describe('a transaction that has read the partition before the move', () => {
  for (const role of roles) {
    it.each(levels)(`writes it after, through the ${role} at %s`, async (level) => {
      const at = await place();
      const client = await begin(at[role], level);
      expect(await seen(client, at.key)).toBe('first');
      const id = await changeLeader(at.pid, at.target);
      // It holds the hinge's lock, which keeps the partition where it is: the swing waits, says for whom, and
      // holds nobody up.
      const shown = await waiting(id, /has used the partition/);
      expect(shown.waitsFor).toMatchObject({ kind: 'transaction', user: userOn(at, role, 'source'), node: at.source });
      expect(shown.waitsFor?.pid).toBeGreaterThan(0);
      expect(shown.waitsFor?.query).toMatch(/SELECT|FETCH|CURSOR|CLOSE/);
      const beganMs = performance.now();
      await cluster.sql(at.third).query("INSERT INTO acct VALUES ($1, 'new')", [at.added]);
      expect(performance.now() - beganMs).toBeLessThan(BUDGET_MS + slackMs());
      if (level !== 'READ COMMITTED') expect(await seen(client, at.added)).toBeUndefined();
      else if (role === 'source') expect(await seen(client, at.added)).toBe('new');
      expect(await update(client, at.key, 'second')).toMatchObject({ rowCount: 1 });
      expect(await seen(client, at.key)).toBe('second');
      expect(await seen(cluster.sql(at.third), at.key)).toBe('first');
      expect((await show(id)).status).toBe('running');
      await client.query('COMMIT');
      const ended = await cluster.waitForOperation(id);
      expect(ended.pauses.filter((p) => p.purpose === 'leader' && p.outcome === 'done')).toHaveLength(1);
      expect((await holdersOf(cluster, 'acct', at.pid)).leader).toBe(at.target);
      await expectEverywhere(at.key, 'second');
    });
  }
});

describe('a transaction that has looked elsewhere before the move', () => {
  for (const role of roles) {
    it.each(levels)(`finds the partition as it is after the move, through the ${role} at %s`, async (level) => {
      const at = await place();
      const client = await begin(at[role], level);
      const { rows } = await client.query<{ n: string }>('SELECT count(*) AS n FROM other');
      expect(Number(rows[0]?.n)).toBe(400);
      const id = await changeLeader(at.pid, at.target);
      await swung(at.pid, at.target);
      if (level !== 'READ COMMITTED' || role !== 'target') {
        // Its snapshot of the new leader is older than the change: nobody may look at the partition there
        // with such eyes.
        const shown = await waiting(id, /older than the change of leader/);
        expect(shown.waitsFor).toMatchObject({
          kind: 'transaction',
          user: userOn(at, role, 'target'),
          node: at.target,
        });
        expect(shown.steps.find((s) => s.name === 'localise-target')?.status).toBe('running');
      }
      await update(cluster.sql(at.third), at.key, 'current');
      expect(await seen(client, at.key)).toBe('current');
      expect(await update(client, at.key, 'mine')).toMatchObject({ rowCount: 1 });
      expect(await seen(client, at.key)).toBe('mine');
      const again = await client.query<{ n: string }>('SELECT count(*) AS n FROM other');
      expect(again.rows).toEqual(rows);
      expect(await seen(cluster.sql(at.third), at.key)).toBe('current');
      await client.query('COMMIT');
      await cluster.waitForOperation(id);
      await expectEverywhere(at.key, 'mine');
    });
  }

  it('reads the same again at REPEATABLE READ, whoever writes meanwhile', async () => {
    const at = await place();
    const client = await begin(at.target, 'REPEATABLE READ');
    await client.query('SELECT count(*) AS n FROM other');
    const id = await changeLeader(at.pid, at.target);
    await swung(at.pid, at.target);
    expect(await seen(client, at.key)).toBe('first');
    await update(cluster.sql(at.third), at.key, 'theirs');
    expect(await seen(client, at.key)).toBe('first');
    await client.query('COMMIT');
    await cluster.waitForOperation(id);
    await expectEverywhere(at.key, 'theirs');
  });
});

describe('an operation that waits for a transaction', () => {
  it('is cancelled, and a change of leader leaves guards and forwards as they were', async () => {
    const at = await place();
    const client = await begin(at.third, 'READ COMMITTED');
    await seen(client, at.key);
    const id = await changeLeader(at.pid, at.target);
    await waiting(id, /has used the partition/);
    await cluster.admin({ do: 'op-cancel', id });
    await eventually(async () => expect((await show(id)).status).toBe('cancelled'), 5_000);
    expect(await holdersOf(cluster, 'acct', at.pid)).toMatchObject({ leader: at.source });
    await update(client, at.key, 'kept');
    await client.query('COMMIT');
    await expectEverywhere(at.key, 'kept');
    await expectSettled(cluster, nodes);
  });

  it('holds no writer up, however long a writer keeps a copy waiting, and can be cancelled and repeated', async () => {
    const load = await Load.prepare(cluster, { table: 'busy', nodes, partitions: 4, replicas: 2 });
    load.start();
    const { leader, followers } = await holdersOf(cluster, 'busy', 0);
    const to = nodes.find((n) => n !== leader && !followers.includes(n)) ?? 0;
    const tid = (await cluster.admin({ do: 'partition-ls', table: 'busy' }))[0]?.tid ?? 0;
    const key = await keyIn(cluster, { tid, table: 'busy' }, 4, 0, 90_000_000);
    const client = await begin(leader, 'READ COMMITTED');
    await client.query("INSERT INTO busy VALUES ($1, 'open', 1)", [key]);
    const { rows: me } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await sleep(1_200);

    const beganMs = performance.now();
    const add = async () => {
      const { operations } = await cluster.admin({ do: 'partition-add-replica', table: 'busy', pids: [0], node: to });
      const id = operations[0] ?? 0;
      const shown = await waiting(id, /wait for it|when it ends/);
      expect(shown.waitsFor).toMatchObject({ kind: 'slot', pid: me[0]?.pid, user: 'tide', node: leader });
      expect(shown.waitsFor?.query).toBe('SELECT pg_backend_pid() AS pid');
      expect(shown.waitsFor?.ageSeconds).toBeGreaterThan(1);
      return id;
    };
    const cancelled = await add();
    await sleep(1_000);
    await cluster.admin({ do: 'op-cancel', id: cancelled });
    await eventually(async () => expect((await show(cancelled)).status).toBe('cancelled'), 10_000);
    expect(await holdersOf(cluster, 'busy', 0)).toEqual({ leader, followers });
    expect((await cluster.admin({ do: 'doctor' })).findings).toEqual([]);

    const id = await add();
    await sleep(3_000);
    expect(await show(id)).toMatchObject({ status: 'running', step: 'copy-rows' });
    expect(load.longestWriteMs(beganMs)).toBeLessThan(BUDGET_MS + slackMs());
    expect(load.writesBetween(beganMs, performance.now())).toBeGreaterThan(100);
    await client.query('COMMIT');
    await cluster.waitForOperation(id);
    await load.stop();
    await expectNothingLost(cluster, load, nodes);
  });

  it('left nothing behind', async () => {
    expect(await expectReplicasEqual(cluster)).toBe(3 * PARTITIONS + 1);
    await expectSettled(cluster, nodes);
  });
});
