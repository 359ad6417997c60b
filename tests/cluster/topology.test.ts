import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { PartitionRow } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import type { Topology } from '../../src/routing/topology.ts';
import { createTable, LocalCluster, waitForAll } from '../support/cluster.ts';
import { TopologyWatch } from '../support/topology-watch.ts';
import { startNodes } from './support/proof.ts';
import { tide } from './support/tide.ts';

/** Whoever follows the topology has what the manager has, in order, through any node, wherever that is. */

const PARTITIONS = 6;
const SETTLED_MS = 20_000;
let cluster: LocalCluster;
const watches = new Map<number, TopologyWatch>();

beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (const node of await startNodes(cluster, 3)) watch(node);
  // Leaders that the balancer moves back would be in the way of those that the test moves.
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
});
afterAll(async () => {
  await Promise.all([...watches.values()].map((w) => w.end()));
  await cluster?.close();
});

function watch(node: number): TopologyWatch {
  const heard = new TopologyWatch(cluster.node(node).address);
  watches.set(node, heard);
  return heard;
}

/** As `partition-ls` and the topology both can say it. */
function placementOf(rows: readonly PartitionRow[]): string[] {
  return rows.map((r) => `${r.tid}/${r.pid} in ${r.epoch}: ${r.role} ${r.node} ${r.state}`).sort();
}

function placementIn({ tables }: Topology): string[] {
  const partitions = [...tables.values()].flatMap((t) => t.partitions);
  return partitions
    .flatMap((p) =>
      p.replicas.map((r) => {
        const role = r.node === p.leader ? 'leader' : 'follower';
        return `${p.tid}/${p.pid} in ${p.epoch}: ${role} ${r.node} ${r.state}`;
      }),
    )
    .sort();
}

/** Every node's feed says of partitions what the command says, and knows these nodes. */
async function expectEverywhere(nodes: readonly number[]): Promise<Topology> {
  await vi.waitFor(
    async () => {
      const wanted = placementOf(await cluster.admin({ do: 'partition-ls' }));
      for (const [node, { topology, ageMs }] of watches) {
        const known = must(topology, `a topology through node ${node}`);
        expect(placementIn(known), `node ${node}`).toEqual(wanted);
        expect([...known.nodes.keys()], `node ${node}`).toEqual(nodes);
        expect(ageMs, `node ${node}`).toBeLessThan(5_000);
      }
    },
    { timeout: SETTLED_MS, interval: 200 },
  );
  for (const [node, { broken }] of watches) expect(broken, `node ${node}`).toEqual([]);
  return must(watches.get(2)?.topology, 'topology');
}

async function changeLeaders(table: string): Promise<void> {
  const rows = await cluster.admin({ do: 'partition-ls', table });
  const followers = new Map(rows.filter((r) => r.role === 'follower').map((r) => [r.pid, r.node]));
  for (const [pid, node] of followers) {
    const { operations } = await cluster.admin({ do: 'partition-change-leader', table, pid, to: node });
    await waitForAll(cluster, operations);
  }
}

it('a table is made and leaders change', async () => {
  await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY, name text NOT NULL)', {
    partitions: PARTITIONS,
    replicas: 2,
  });
  await changeLeaders('acct');
  const { tables } = await expectEverywhere([1, 2, 3]);
  expect([...tables.values()]).toMatchObject([
    {
      schema: 'public',
      name: 'acct',
      state: 'ready',
      distributeBy: 'id',
      primaryKey: ['id'],
      columns: [
        { name: 'id', type: 'bigint', notNull: true },
        { name: 'name', type: 'text', notNull: true },
      ],
    },
  ]);
  expect(Math.max(...must(tables.get(1), 'acct').partitions.map((p) => p.epoch))).toBeGreaterThan(1);
});

it('a node joins and gets a replica', async () => {
  const { id, address } = await cluster.addNode();
  expect(id).toBe(4);
  watch(id);
  const { operations } = await cluster.admin({ do: 'partition-add-replica', table: 'acct', pids: [0], node: 4 });
  await waitForAll(cluster, operations);
  const { nodes } = await expectEverywhere([1, 2, 3, 4]);
  expect(nodes.get(4)).toMatchObject({ address, state: 'active', postgresPort: cluster.node(4).postgresPort });
});

it('the manager moves to another node, and leaders change', async () => {
  const before = must(watches.get(3)?.topology, 'topology').revision;
  expect(await tide(cluster, 3, 'meta', 'move', '2')).toMatchObject({ status: 0 });
  await changeLeaders('acct');
  expect((await expectEverywhere([1, 2, 3, 4])).revision).toBeGreaterThan(before);
});

it('the manager is killed: the others go on with what they have, and say how old it is', async () => {
  await cluster.node(2).kill();
  const [{ topology }, heard] = [must(watches.get(3), 'watch'), must(watches.get(1), 'watch')];
  await vi.waitFor(() => expect(heard.ageMs).toBeGreaterThan(4_000), { timeout: 30_000, interval: 200 });
  expect(heard.topology).toEqual(topology);
  await cluster.node(2).restart();
  await changeLeaders('acct');
  await expectEverywhere([1, 2, 3, 4]);
});

it('a node leaves', async () => {
  const { operation } = await cluster.admin({ do: 'node-decommission', nodes: [4] });
  await waitForAll(cluster, [operation]);
  await expectEverywhere([1, 2, 3]);
});
