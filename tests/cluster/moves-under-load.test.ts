import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OperationResult } from '../../src/api/results.ts';
import { LocalCluster } from '../support/cluster.ts';
import { Load } from './support/load.ts';
import {
  expectNothingLost,
  expectPausesWithin,
  expectReplicasEqual,
  expectSettled,
  holdersOf,
  startNodes,
} from './support/proof.ts';

/** docs/spec/moves.md: every kind of move by hand, with traffic through all nodes. */

const PARTITIONS = 8;
const BUDGET_MS = 200;
const table = 'acct';
let cluster: LocalCluster;
let nodes: number[];
let load: Load;
const operations: OperationResult[] = [];

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 4);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  load = await Load.prepare(cluster, { table, nodes, partitions: PARTITIONS, replicas: 2 });
  load.start();
});
afterAll(() => cluster?.close());

async function run(started: Promise<{ operations: number[] }>): Promise<OperationResult[]> {
  const { operations: ids } = await started;
  const ended = await Promise.all(ids.map((id) => cluster.waitForOperation(id)));
  operations.push(...ended);
  return ended;
}

/** The node of the four that holds no replica of the partition. */
async function strangerTo(pid: number): Promise<number> {
  const { leader, followers } = await holdersOf(cluster, table, pid);
  return nodes.find((n) => n !== leader && !followers.includes(n)) ?? 0;
}

describe('moves under load', () => {
  it('changes the leader of every partition there and back', async () => {
    for (let pid = 0; pid < PARTITIONS; pid++) {
      const before = await holdersOf(cluster, table, pid);
      for (const to of [...before.followers, before.leader]) {
        const [ended] = await run(cluster.admin({ do: 'partition-change-leader', table, pid, to }));
        expect(ended?.pauses.some((p) => p.purpose === 'leader' && p.outcome === 'done')).toBe(true);
        expect((await holdersOf(cluster, table, pid)).leader).toBe(to);
      }
      expect(await holdersOf(cluster, table, pid)).toEqual(before);
    }
  });

  it('migrates a follower', async () => {
    const before = await holdersOf(cluster, table, 0);
    const [from] = before.followers;
    const to = await strangerTo(0);
    await run(cluster.admin({ do: 'partition-migrate', table, pids: [0], from: from ?? 0, to }));
    expect(await holdersOf(cluster, table, 0)).toEqual({ leader: before.leader, followers: [to] });
  });

  it('migrates a leader', async () => {
    const before = await holdersOf(cluster, table, 1);
    const to = await strangerTo(1);
    await run(cluster.admin({ do: 'partition-migrate', table, pids: [1], from: before.leader, to }));
    expect(await holdersOf(cluster, table, 1)).toEqual({ leader: to, followers: before.followers });
  });

  it('adds replicas, hands them the lead, and deletes the old ones', async () => {
    const pids = [2, 3];
    for (const pid of pids) {
      const before = await holdersOf(cluster, table, pid);
      const to = await strangerTo(pid);
      await run(cluster.admin({ do: 'partition-add-replica', table, pids: [pid], node: to }));
      expect((await holdersOf(cluster, table, pid)).followers.sort()).toEqual([...before.followers, to].sort());
      await run(cluster.admin({ do: 'partition-change-leader', table, pid, to }));
      await run(cluster.admin({ do: 'partition-del-replica', table, pids: [pid], node: before.leader }));
      expect(await holdersOf(cluster, table, pid)).toEqual({ leader: to, followers: before.followers });
    }
  });

  it('lost nothing, missed nothing, and left nothing behind', async () => {
    await load.stop();
    const { inserts, updates, transactions, reads, counts } = load.done;
    for (const done of [inserts, updates, transactions, reads]) expect(done).toBeGreaterThan(50);
    expect(counts).toBeGreaterThan(20);
    await expectNothingLost(cluster, load, nodes);
    expect(await expectReplicasEqual(cluster)).toBe(PARTITIONS);
    await expectSettled(cluster, nodes);
    expect(expectPausesWithin(operations, BUDGET_MS)).toBeGreaterThan(2 * PARTITIONS * 3);
  });
});
