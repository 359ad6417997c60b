import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { withCluster } from '../support/cluster.ts';

test('a node joins through another while the manager is killed and starts again', () =>
  withCluster(2, async (cluster) => {
    await cluster.node(1).kill();
    const joining = cluster.addNode();
    // Long enough that the new node asks for its place while nobody is there to give it one.
    await sleep(5_000);
    await cluster.node(1).restart();
    const { id } = await joining;
    const nodes = await cluster.admin({ do: 'node-status' });
    expect(nodes.filter((n) => n.isAvailable).map((n) => n.id)).toEqual([1, 2, id]);
  }));
