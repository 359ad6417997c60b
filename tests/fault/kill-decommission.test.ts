import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { OperationResult } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import { whatIsWrong } from '../support/checks.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { hold, untilEnded } from '../support/operations.ts';
import { LOAD_TABLE, Load, PARTITIONS } from './support/load.ts';

const MANAGER = 1;
let cluster: LocalCluster;
let load: Load;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (let id = 1; id <= 3; id++) await cluster.addNode();
  await createTable(cluster, LOAD_TABLE, { partitions: PARTITIONS, replicas: 2 });
  load = await Load.prepare(cluster, MANAGER);
});

afterAll(async () => {
  await load?.close();
  await cluster?.close();
});

test('a rebalance goes on after the manager is killed in the middle of it', async () => {
  load.start([1, 2, 3]);
  const { id: added } = await cluster.addNode();
  await expect
    .poll(async () => (await running('rebalance')) !== undefined, { timeout: 20_000, interval: 50 })
    .toBe(true);
  const { id } = must(await running('rebalance'), 'rebalance');
  const hit = await untilSomeMoved(id);
  await crashManager();
  const ended = await untilEnded(cluster, id);
  expect(ended.status).toBe('done');
  expect(ended.children.length).toBeGreaterThan(hit.children.filter((child) => child.status === 'done').length);
  const replicas = (await cluster.admin({ do: 'partition-ls' })).filter((row) => row.node === added);
  expect(replicas.length).toBeGreaterThan(2);
  await allIsWell([1, 2, 3, added]);
});

test('a decommission goes on after the manager is killed; recommissioned, everything is where it was', async () => {
  const prior = await placement();
  load.start([1, 2, 3]);
  const led = must(
    (await cluster.admin({ do: 'partition-ls' })).find((r) => r.node === 4 && r.role === 'leader'),
    'leader',
  );
  const reader = await hold(cluster.node(4).postgresPort, `SELECT count(*) FROM tide_hinge.t${led.tid}_p${led.pid}`);
  const { operation } = await cluster.admin({ do: 'node-decommission', nodes: [4] });
  const id = must(operation, 'operation');
  await untilSomeMoved(id);
  await crashManager();
  const resumed = await cluster.admin({ do: 'op-show', id });
  expect(resumed.endedAt).toBeNull();
  expect(await placement()).not.toEqual(prior);
  await cluster.admin({ do: 'node-recommission', nodes: [4] });
  await reader.end();
  const ended = await untilEnded(cluster, id);
  expect(ended.status).toBe('cancelled');
  expect(await placement()).toEqual(prior);
  await allIsWell([1, 2, 3, 4]);
});

test('a decommission that nobody cancels ends by itself after the manager is killed', async () => {
  load.start([1, 2, 3]);
  const { operation } = await cluster.admin({ do: 'node-decommission', nodes: [4] });
  const id = must(operation, 'operation');
  await untilSomeMoved(id);
  await crashManager();
  expect((await untilEnded(cluster, id)).status).toBe('done');
  expect((await cluster.admin({ do: 'node-status' })).find((node) => node.id === 4)).toMatchObject({
    state: 'decommissioned',
    replicas: 0,
  });
  await allIsWell([1, 2, 3]);
});

async function running(kind: string) {
  return (await cluster.admin({ do: 'op-ls' })).find((op) => op.kind === kind && op.status === 'running');
}

/** The middle: some moves are done, others are under way. */
async function untilSomeMoved(id: number): Promise<OperationResult> {
  for (;;) {
    const operation = await cluster.admin({ do: 'op-show', id });
    if (operation.endedAt !== null)
      throw new Error(`operation ${id} was ${operation.status} before it could be disturbed`);
    const has = (status: string) => operation.children.some((child) => child.status === status);
    if (has('done') && has('running')) return operation;
  }
}

async function crashManager(): Promise<void> {
  load.expect({ through: [MANAGER], pids: [] });
  await cluster.node(MANAGER).kill();
  await sleep(300);
  await cluster.node(MANAGER).restart();
  load.expect(null);
}

async function placement(): Promise<string[]> {
  const rows = await cluster.admin({ do: 'partition-ls' });
  return rows.map((row) => `${row.pid} ${row.role} ${row.node}`).sort();
}

async function allIsWell(nodes: number[]): Promise<void> {
  await load.untilAcknowledged(20);
  const { statements } = load;
  await load.stop();
  expect(statements).toBeGreaterThan(50);
  expect(await whatIsWrong(cluster, nodes)).toEqual([]);
  for (const node of nodes) expect(await load.verify(node)).toEqual([]);
  expect(load.failures).toEqual([]);
}
