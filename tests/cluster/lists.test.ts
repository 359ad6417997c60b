import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { crookedHinges } from '../support/checks.ts';
import { createTable, LocalCluster, waitForAll } from '../support/cluster.ts';
import { eventually, holdersOf, startNodes } from './support/proof.ts';

/**
 * Lists answer from the last measurement, and neither they nor what measures and plans waits for a lock that
 * a client holds.
 */

const PARTITIONS = 4;
/** From one look at a node's sizes to the next. */
const LOOK_MS = 2_000;
/** More than a partition has without rows. */
const BYTES_MIN = 16_384;
/** Some rounds of the manager; one that waited for the lock would end after 15 s. */
const SOON_MS = 12_000;
let cluster: LocalCluster;
let nodes: number[];

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  for (const table of ['held', 'free'])
    await createTable(cluster, `CREATE TABLE ${table} (id bigint PRIMARY KEY, v text)`, {
      partitions: PARTITIONS,
      replicas: 2,
    });
  await cluster.sql(1).query("INSERT INTO held SELECT n, repeat('x', 200) FROM generate_series(1, 5000) n");
});
afterAll(() => cluster?.close());

const partitions = (table: string) => cluster.admin({ do: 'partition-ls', table });

/**
 * Writes to the free table through every node, one after the other, until `work` is over; it has to have come
 * through.
 */
async function underTraffic<T>(work: () => Promise<T>): Promise<T> {
  let over = false;
  let written = 0;
  const writers = nodes.map(async (node) => {
    while (!over) {
      await cluster.sql(node).query('INSERT INTO free VALUES ($1, $2)', [++written, 'x']);
    }
  });
  try {
    return await work();
  } finally {
    over = true;
    await Promise.all(writers);
    expect(written).toBeGreaterThan(nodes.length);
  }
}

/**
 * All of the table that a node has is locked against everybody while `work` goes on: its hinges, and the rows
 * that it leads.
 */
async function whileHeld<T>(node: number, work: (heldSinceMs: number) => Promise<T>): Promise<T> {
  const { host, port, user, database } = cluster.sql(node).options;
  const holder = new pg.Client({ host, port, user, database });
  holder.on('error', () => {});
  await holder.connect();
  try {
    await holder.query('BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE');
    const sinceMs = performance.now();
    const result = await work(sinceMs);
    const { rows } = await holder.query(
      `SELECT count(*)::int AS locks FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
        WHERE l.pid = pg_backend_pid() AND l.mode = 'AccessExclusiveLock' AND c.relnamespace = 'tide_data'::regnamespace`,
    );
    expect(rows[0].locks, 'tables with rows that were locked to the end').toBeGreaterThan(0);
    await holder.query('ROLLBACK');
    return result;
  } finally {
    await holder.end();
  }
}

describe('while a client has a table locked against everybody, under write traffic', () => {
  it('the lists answer, the figures of all others stay young, and those of the locked one say how old they are', async () => {
    await eventually(async () => {
      for (const row of await partitions('held')) expect(row.bytes).toBeGreaterThan(BYTES_MIN);
    });
    const { node } = must(
      (await partitions('held')).find((r) => r.role === 'leader'),
      'a leader',
    );
    await underTraffic(() =>
      whileHeld(node, async (sinceMs) => {
        const heldMs = () => performance.now() - sinceMs;
        // Longer than from one look to the next: every table that is not locked has been measured since.
        await eventually(async () => {
          const atMs = heldMs();
          for (const row of await partitions('free')) expect(row.measuredAgeMs, `node ${row.node}`).toBeLessThan(atMs);
          const [held, free] = (await cluster.admin({ do: 'table-ls' })).toSorted((a, b) => a.tid - b.tid);
          expect(free?.measuredAgeMs).toBeLessThan(atMs);
          // It has missed a look that the other has had.
          expect(held?.measuredAgeMs).toBeGreaterThan((free?.measuredAgeMs ?? 0) + LOOK_MS);
          for (const row of await cluster.admin({ do: 'node-status' })) expect(row.measuredAgeMs).toBeLessThan(atMs);
        });
        const locked = (await partitions('held')).filter((r) => r.node === node && r.role === 'leader');
        expect(locked.length).toBeGreaterThan(0);
        for (const row of locked) {
          // As it was measured before, not the estimate of a table that nobody has analysed.
          expect(row.bytes).toBeGreaterThan(BYTES_MIN);
          expect(row.measuredAgeMs).toBeGreaterThan(LOOK_MS);
        }
      }),
    );
    await eventually(async () => {
      for (const row of await partitions('held')) expect(row.measuredAgeMs).toBeLessThan(10_000);
    });
  });

  it('hinges of all nodes are pointed at a new leader of another table', async () => {
    const { leader, followers } = await holdersOf(cluster, 'free', 0);
    const [to = 0] = followers;
    // It takes no part in the change, whose settling would wait for a transaction at its target.
    const node = must(
      nodes.find((n) => n !== leader && n !== to),
      'a third node',
    );
    await whileHeld(node, async () => {
      const { operations } = await cluster.admin({ do: 'partition-change-leader', table: 'free', pid: 0, to });
      await cluster.waitForOperation(operations[0] ?? 0);
      expect((await holdersOf(cluster, 'free', 0)).leader).toBe(to);
      await eventually(async () => expect(await crookedHinges(cluster, nodes)).toEqual([]), SOON_MS);
    });
  });

  it('an imbalance is planned away', async () => {
    await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
    // One that began before balancing was switched off goes on to its end.
    const underWay = async () => (await cluster.admin({ do: 'op-ls', all: true })).filter((o) => o.endedAt === null);
    await eventually(async () => expect(await underWay()).toEqual([]));
    const rows = await partitions('free');
    const [full = 0] = nodes;
    for (let pid = 0; pid < PARTITIONS; pid++) {
      const here = rows.filter((r) => r.pid === pid);
      if (here.some((r) => r.node === full)) continue;
      const from = must(
        here.find((r) => r.role === 'follower'),
        'a follower',
      ).node;
      const moved = await cluster.admin({ do: 'partition-migrate', table: 'free', pids: [pid], from, to: full });
      await waitForAll(cluster, moved.operations);
    }
    const known = (await cluster.admin({ do: 'op-ls', all: true })).map((o) => o.id);
    const begun = async () => (await cluster.admin({ do: 'op-ls', all: true })).filter((o) => !known.includes(o.id));
    await whileHeld(full, async () => {
      await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'on' });
      await eventually(async () => expect((await begun()).map((o) => o.kind)).toContain('rebalance'), SOON_MS);
    });
    await waitForAll(
      cluster,
      (await begun()).filter((o) => o.kind === 'rebalance').map((o) => o.id),
    );
  });
});
