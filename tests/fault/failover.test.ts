import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PartitionRow } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import { TIDE_PEER } from '../../src/postgres/config.ts';
import { whatIsWrong } from '../support/checks.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';

const PARTITIONS = 8;
const WRITERS = 4;
const STATEMENT_MS = 3_000;

let cluster: LocalCluster;
let nextKey = 1;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (let started = 0; started < 4; started++) await cluster.addNode();
  await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY, note text)', {
    partitions: PARTITIONS,
    replicas: 3,
  });
  await cluster.sql(1).query(`INSERT INTO acct SELECT -n, 'base' FROM generate_series(1, 2000) n`);
});

afterAll(async () => {
  await cluster?.close();
});

/** Writers on new keys through living nodes; what a node has acknowledged is kept. */
class Writers {
  readonly acknowledged: number[] = [];
  readonly incomplete: string[] = [];
  readonly #pools: pg.Pool[];
  readonly #workers: Promise<void>[];
  #stopped = false;

  constructor(nodes: readonly number[]) {
    this.#pools = nodes.map((node) => pool(Number(cluster.node(node).address.split(':')[1])));
    const through = (turn: number) => must(this.#pools[turn % this.#pools.length], 'pool');
    this.#workers = Array.from({ length: WRITERS }, (_, writer) => this.#write((turn) => through(writer + turn)));
    this.#workers.push(this.#count(through));
  }

  async #write(through: (turn: number) => pg.Pool): Promise<void> {
    for (let turn = 0; !this.#stopped; turn++) {
      const key = nextKey++;
      const ok = await through(turn)
        .query('INSERT INTO acct VALUES ($1, $2)', [key, 'written'])
        .then(() => true)
        .catch(() => false);
      if (ok) this.acknowledged.push(key);
      await sleep(ok ? 10 : 20);
    }
  }

  /** A count may fail while a leader is missing; one that answers is complete. */
  async #count(through: (turn: number) => pg.Pool): Promise<void> {
    for (let turn = 0; !this.#stopped; turn++) {
      const found = await through(turn)
        .query<{ n: string }>('SELECT count(*) AS n FROM acct WHERE id < 0')
        .catch(() => null);
      if (found && Number(found.rows[0]?.n) !== 2000) this.incomplete.push(`${found.rows[0]?.n} of 2000 rows`);
      await sleep(50);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#workers);
    await Promise.all(this.#pools.map((p) => p.end()));
  }

  /** Acknowledged, and not to be found through a node. */
  async lost(node: number): Promise<number[]> {
    const { rows } = await cluster.postgres(node).query<{ id: string }>('SELECT id FROM acct WHERE id > 0');
    const found = new Set(rows.map((r) => Number(r.id)));
    return this.acknowledged.filter((key) => !found.has(key));
  }
}

function pool(port: number): pg.Pool {
  const made = new pg.Pool({
    host: '127.0.0.1',
    port,
    user: 'tide',
    database: 'tide',
    max: 4,
    connectionTimeoutMillis: STATEMENT_MS,
    query_timeout: STATEMENT_MS,
  });
  made.on('error', () => {});
  made.on('connect', (client) => client.on('error', () => {}));
  return made;
}

const rows = () => cluster.admin({ do: 'partition-ls', table: 'acct' }, { node: 1 });
const ledBy = async (node: number) => (await rows()).filter((r) => r.role === 'leader' && r.node === node);
const condition = async (node: number) =>
  (await cluster.admin({ do: 'node-status' }, { node: 1 })).find((r) => r.id === node)?.condition;

/** No operation is under way any more, and nothing is wrong. */
async function expectSettled(nodes: readonly number[]): Promise<void> {
  const running = async () =>
    (await cluster.admin({ do: 'op-ls', all: true }, { node: 1 }))
      .filter((o) => o.endedAt === null)
      .map((o) => o.subject);
  await expect.poll(running, { timeout: 60_000, interval: 300 }).toEqual([]);
  expect(await whatIsWrong(cluster, nodes)).toEqual([]);
}

async function killMachine(node: number): Promise<void> {
  const killed = cluster.node(node).kill();
  cluster.node(node).killPostgres();
  await killed;
}

/** Fails where there are not so many in time. */
async function untilAcknowledged(writers: Writers, writes: number): Promise<void> {
  await expect
    .poll(() => writers.acknowledged.length, { timeout: 30_000, interval: 20 })
    .toBeGreaterThanOrEqual(writes);
}

/** A key of each of these partitions, above all that are used. */
async function keysIn(partitions: readonly PartitionRow[]): Promise<Map<number, number>> {
  const { rows: found } = await cluster.postgres(1).query<{ id: string; pid: number }>(
    `SELECT min(k) AS id, pid FROM generate_series(100000000::bigint, 100001000) k, generate_series(0, $1) pid
      WHERE satisfies_hash_partition('acct'::regclass, $2, pid, k) GROUP BY pid`,
    [PARTITIONS - 1, PARTITIONS],
  );
  return new Map(found.filter((r) => partitions.some((p) => p.pid === r.pid)).map((r) => [r.pid, Number(r.id)]));
}

/**
 * Tries without a pause to write straight into the replicas, as a node that has stayed with the old leader
 * would.
 */
class StaleClient {
  readonly accepted: string[] = [];
  tries = 0;
  readonly #worker: Promise<void>;
  #stopped = false;

  constructor(node: number, keys: ReadonlyMap<number, number>, tid: number) {
    this.#worker = this.#insist(cluster.node(node).postgresPort, keys, tid);
  }

  async #insist(port: number, keys: ReadonlyMap<number, number>, tid: number): Promise<void> {
    while (!this.#stopped) {
      const client = new pg.Client({
        host: '127.0.0.1',
        port,
        user: TIDE_PEER,
        database: 'tide',
        connectionTimeoutMillis: 1_000,
        query_timeout: 2_000,
      });
      client.on('error', () => {});
      this.tries += 1;
      try {
        await client.connect();
        for (const [pid, key] of keys) {
          const wrote = await client
            .query(`INSERT INTO tide_data.t${tid}_p${pid} VALUES ($1, 'stale')`, [key])
            .catch(() => null);
          if (wrote) this.accepted.push(`partition ${pid}`);
        }
      } catch {
        // Not there yet, or fenced.
      }
      await client.end().catch(() => {});
      await sleep(2);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#worker;
  }
}

test('a node that dies is replaced by its followers, and serves again when it has been cleaned up', async () => {
  const victim = 2;
  const lost = await ledBy(victim);
  expect(lost.length).toBeGreaterThan(0);
  const keys = await keysIn(lost);
  const writers = new Writers([1, 3, 4]);
  await untilAcknowledged(writers, 50);
  const killedMs = performance.now();
  await killMachine(victim);
  await expect.poll(async () => (await ledBy(victim)).length, { timeout: 10_000, interval: 50 }).toBe(0);
  // Every partition is written to again, through whichever node.
  const client = pool(Number(cluster.node(3).address.split(':')[1]));
  for (const key of keys.values()) {
    await expect
      .poll(
        () =>
          client.query('INSERT INTO acct VALUES ($1, $2)', [key, 'after']).then(
            () => true,
            () => false,
          ),
        { timeout: 10_000, interval: 50 },
      )
      .toBe(true);
  }
  await client.end();
  expect(performance.now() - killedMs).toBeLessThan(10_000);
  await expect.poll(() => condition(victim), { timeout: 10_000, interval: 100 }).toBe('out');

  await untilAcknowledged(writers, writers.acknowledged.length + 50);
  const stale = new StaleClient(victim, keys, must(lost[0], 'partition').tid);
  await cluster.node(victim).restart();
  await expect.poll(() => condition(victim), { timeout: 30_000, interval: 200 }).toBe('live');
  await expect.poll(() => stale.tries, { timeout: 30_000, interval: 20 }).toBeGreaterThan(10);
  await stale.stop();
  expect(stale.accepted).toEqual([]);
  await writers.stop();
  expect(writers.acknowledged.length).toBeGreaterThan(100);
  await expect
    .poll(async () => (await rows()).filter((r) => r.state !== 'ready'), { timeout: 60_000, interval: 300 })
    .toEqual([]);
  expect(writers.incomplete).toEqual([]);
  for (const node of [1, 2, 3, 4]) expect(await writers.lost(node)).toEqual([]);
  await expectSettled([1, 2, 3, 4]);
});

test('a PostgreSQL that its own node starts again needs no failover, or a right one', async () => {
  const victim = 3;
  const writers = new Writers([1, 2, 4]);
  await untilAcknowledged(writers, 50);
  const pid = cluster.node(victim).postgresProcessId;
  cluster.node(victim).killPostgres();
  await expect.poll(() => cluster.node(victim).postgresProcessId, { timeout: 10_000, interval: 20 }).not.toBe(pid);
  // Live it is also for those who have not noticed its death: it is back when it lets somebody in.
  const letsIn = () =>
    cluster
      .postgres(victim)
      .query('SELECT 1')
      .then(
        () => true,
        () => false,
      );
  await expect.poll(letsIn, { timeout: 30_000, interval: 100 }).toBe(true);
  await expect.poll(() => condition(victim), { timeout: 30_000, interval: 100 }).toBe('live');
  await untilAcknowledged(writers, writers.acknowledged.length + 100);
  await writers.stop();
  expect(writers.acknowledged.length).toBeGreaterThan(100);
  expect(writers.incomplete).toEqual([]);
  await expect
    .poll(async () => (await rows()).filter((r) => r.state !== 'ready'), { timeout: 60_000, interval: 300 })
    .toEqual([]);
  for (const node of [1, 2, 3, 4]) expect(await writers.lost(node)).toEqual([]);
  await expectSettled([1, 2, 3, 4]);
});

test('a frozen node is not replaced: nothing proves that it is down, and it goes on where it was', async () => {
  const victim = 4;
  const before = (await ledBy(victim)).map((r) => [r.pid, r.epoch]);
  await cluster.node(victim).kill('SIGSTOP');
  cluster.node(victim).killPostgres('SIGSTOP');
  await sleep(6_000);
  expect(await condition(victim)).toBe('silent');
  expect((await ledBy(victim)).map((r) => [r.pid, r.epoch])).toEqual(before);
  const told = await cluster.admin({ do: 'events' }, { node: 1 });
  expect(told.some((e) => e.kind === 'node-unproven' && e.node === victim)).toBe(true);
  cluster.node(victim).killPostgres('SIGCONT');
  await cluster.node(victim).kill('SIGCONT');
  await expect.poll(() => condition(victim), { timeout: 15_000, interval: 100 }).toBe('live');
  expect((await ledBy(victim)).map((r) => [r.pid, r.epoch])).toEqual(before);
  await expectSettled([1, 2, 3, 4]);
});

test('replicas of a node that stays away are made elsewhere, and it can be dropped', async () => {
  const victim = 4;
  await cluster.admin({ do: 'setting-set', key: 'node.dead_after', value: '2' });
  await killMachine(victim);
  await expect
    .poll(async () => (await rows()).some((r) => r.node === victim), { timeout: 30_000, interval: 200 })
    .toBe(false);
  await expect
    .poll(async () => (await rows()).filter((r) => r.state === 'ready').length, { timeout: 60_000, interval: 200 })
    .toBe(3 * PARTITIONS);
  const { operation } = await cluster.admin({ do: 'node-drop', node: victim, sure: true }, { node: 1 });
  await cluster.waitForOperation(must(operation, 'operation'));
  expect(await condition(victim)).toBe('gone');
  await expectSettled([1, 2, 3]);
});
