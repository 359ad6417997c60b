import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFailed } from 'vitest';
import type { OperationResult } from '../../src/api/results.ts';
import { LocalCluster } from '../support/cluster.ts';
import { freezeNode } from '../support/freeze.ts';
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

/**
 * docs/spec/moves.md, M11: a node that is neither source nor target, frozen or dead, delays no move and
 * blocks no write.
 */

const PARTITIONS = 8;
const BUDGET_MS = 200;
/** "A few seconds": three until a node that is silent counts as away, and the move itself. */
const MOVE_MS = 8_000;
const table = 'acct';
const bystander = 4;
let cluster: LocalCluster;
let others: number[];
let load: Load;
let thaw = () => {};

beforeAll(async () => {
  cluster = await LocalCluster.create();
  others = await startNodes(cluster, 3);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  load = await Load.prepare(cluster, { table, nodes: others, partitions: PARTITIONS, replicas: 2 });
  expect(await cluster.addNode()).toMatchObject({ id: bystander });
  load.start();
});
afterEach(() => thaw());
afterAll(async () => {
  await load?.stop();
  await cluster?.close();
});

function freeze(): void {
  thaw = freezeNode(cluster, bystander);
}

/** Runs a move to its end; writes through the other nodes go on meanwhile, none held up beyond the budget. */
async function move(started: Promise<{ operations: number[] }>): Promise<OperationResult> {
  const beganMs = performance.now();
  const { operations } = await started;
  const ended = await cluster.waitForOperation(operations[0] ?? 0, () => {}, MOVE_MS);
  const endedMs = performance.now();
  expect(load.longestWriteMs(beganMs, endedMs)).toBeLessThan(BUDGET_MS + slackMs());
  expect(load.writesBetween(beganMs, endedMs)).toBeGreaterThan(5);
  return ended;
}

async function changeLeader(pid: number): Promise<OperationResult> {
  const { followers } = await holdersOf(cluster, table, pid);
  const to = followers.find((n) => n !== bystander) ?? 0;
  const ended = await move(cluster.admin({ do: 'partition-change-leader', table, pid, to }));
  expect((await holdersOf(cluster, table, pid)).leader).toBe(to);
  return ended;
}

async function begin(pid: number): Promise<{ id: number; to: number }> {
  const { followers } = await holdersOf(cluster, table, pid);
  const to = followers[0] ?? 0;
  const { operations } = await cluster.admin({ do: 'partition-change-leader', table, pid, to });
  return { id: operations[0] ?? 0, to };
}

async function stateOnBystander(pid: number): Promise<string | undefined> {
  const rows = await cluster.admin({ do: 'partition-ls', table });
  return rows.find((r) => r.pid === pid && r.node === bystander)?.state;
}

async function isLive(): Promise<boolean> {
  const rows = await cluster.admin({ do: 'node-status' });
  return rows.find((r) => r.id === bystander)?.isLive ?? false;
}

describe('a bystander without a replica', () => {
  it('is frozen, and moves go on; it is brought up to date when it goes on', async () => {
    freeze();
    await changeLeader(0);
    const { leader, followers } = await holdersOf(cluster, table, 1);
    const to = others.find((n) => n !== leader && !followers.includes(n)) ?? 0;
    await move(cluster.admin({ do: 'partition-migrate', table, pids: [1], from: leader, to }));
    expect((await holdersOf(cluster, table, 1)).leader).toBe(to);
    await eventually(async () => expect(await isLive()).toBe(false));
    await changeLeader(0);
    thaw();
    await eventually(async () => expect(await isLive()).toBe(true));
    await expectSettled(cluster, [...others, bystander]);
  });

  it('is frozen in the middle of a transaction: the move of what it reads waits and names it, and nobody else does', async () => {
    const tid = (await cluster.admin({ do: 'partition-ls', table }))[0]?.tid ?? 0;
    const key = await keyIn(cluster, { tid, table }, PARTITIONS, 2, 95_000_000);
    const client = await cluster.sql(bystander).connect();
    onTestFailed(() => client.release(true));
    await client.query('BEGIN');
    await client.query(`SELECT * FROM ${table} WHERE id = $1`, [key]);
    freeze();
    const beganMs = performance.now();
    const own = await begin(2);
    await eventually(async () => {
      const shown = await cluster.admin({ do: 'op-show', id: own.id });
      expect(shown.waitsFor).toMatchObject({ kind: 'transaction', text: expect.stringMatching(/\(tide n4 pid \d+\)/) });
    });
    const next = await begin(3);
    await eventually(async () => expect((await holdersOf(cluster, table, 3)).leader).toBe(next.to), MOVE_MS);
    await sleep(500);
    expect((await holdersOf(cluster, table, 2)).leader).not.toBe(own.to);
    expect(load.longestWriteMs(beganMs)).toBeLessThan(BUDGET_MS + slackMs());
    thaw();
    await client.query('COMMIT');
    client.release();
    for (const { id } of [own, next]) await cluster.waitForOperation(id);
  });
});

describe('a bystander that follows the partition', () => {
  beforeAll(async () => {
    const { operations } = await cluster.admin({
      do: 'partition-add-replica',
      table,
      pids: [4, 5],
      node: bystander,
    });
    for (const id of operations) await cluster.waitForOperation(id);
  });

  async function expectHealed(pid: number): Promise<void> {
    await eventually(async () => expect(await stateOnBystander(pid)).toBe('ready'));
    // The replica counts before its operation has ended: what the copy used is cleared away after.
    await eventually(async () => {
      const all = await cluster.admin({ do: 'op-ls', all: true });
      const resyncs = all.filter((o) => o.kind === 'resync-replica' && o.subject.startsWith(`${table} ${pid}:`));
      expect(resyncs).toMatchObject([{ status: 'done' }]);
    });
  }

  it('is frozen and left behind, and copied again when it goes on', async () => {
    freeze();
    await changeLeader(4);
    expect(await stateOnBystander(4)).toBe('stale');
    await sleep(500);
    thaw();
    await expectHealed(4);
  });

  it('is killed and left behind, and copied again when it is started', async () => {
    cluster.node(bystander).killPostgres();
    await cluster.node(bystander).kill();
    await changeLeader(5);
    expect(await stateOnBystander(5)).toBe('stale');
    await cluster.node(bystander).restart();
    await expectHealed(5);
  });

  it('lost nothing and left nothing behind', async () => {
    await load.stop();
    expect(load.done.counts).toBeGreaterThan(20);
    const all = [...others, bystander];
    await expectNothingLost(cluster, load, all);
    await expectSettled(cluster, all);
    expect(await expectReplicasEqual(cluster)).toBe(PARTITIONS + 2);
  });
});
