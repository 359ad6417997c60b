import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { Load } from './support/load.ts';
import { eventually, expectNothingLost, expectSettled, startNodes } from './support/proof.ts';
import { tide } from './support/tide.ts';

/** A single-replica cluster: old tables stay where they are until `tide scale out` moves them, which the KWDB document cannot. */

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

  it('gives up a node with all its data, and stops it', async () => {
    load.nodes = [1, 3];
    await eventually(async () => expect(load.done.counts).toBeGreaterThan(10));
    const { address } = cluster.node(2);
    const ran = await tide(cluster, 1, 'scale', 'in', address);
    expect(ran).toMatchObject({ status: 0 });
    await eventually(async () => expect(cluster.isRunning(2)).toBe(false));
    expect(await replicasOf('acct', 2)).toBe(0);
  });

  it('lost nothing and left nothing behind', async () => {
    await load.stop();
    await expectNothingLost(cluster, load, [1, 3]);
    await expectSettled(cluster, [1, 3]);
  });
});
