import { expect, test } from 'vitest';
import { faultsOf } from '../../fakes/cleanliness.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

/**
 * Node 1 dies, and at every change of its failover another one: both are failed over, return and are taken
 * back, whoever is first.
 */
const ORDERS = [
  { second: 2, first: 1 },
  { second: 2, first: 2 },
  { second: 3, first: 1 },
  { second: 3, first: 3 },
];

const PLACEMENT = [
  [1, 2, 3],
  [2, 3],
  [1, 2],
  [1, 3],
];

async function withDeadNode(): Promise<World> {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 2, PLACEMENT)]);
  world.crash(1);
  return world;
}

const ended = (world: World, id: number) => world.until(() => world.runner.get(id)?.endedMs !== null);

test.each(ORDERS)(
  'node $second dies at every change of the failover of node 1; node $first is back first',
  async (order) => {
    const rehearsal = await withDeadNode();
    await rehearsal.run('failover', { node: 1, by: 'manager' });
    const bad: string[] = [];
    for (let at = 1; at <= rehearsal.changes().length; at++)
      bad.push(...(await diesToo(order, at)).map((fault) => `at ${at} (${rehearsal.changes()[at - 1]}): ${fault}`));
    expect(bad).toEqual([]);
  },
);

async function diesToo({ second, first }: (typeof ORDERS)[number], at: number): Promise<string[]> {
  const world = await withDeadNode();
  world.hingesFollow = true;
  try {
    await world.begin('failover', { node: 1, by: 'manager' }, { at, mode: 'node-dies', node: second });
    await world.until(() => !world.cluster.at(second).alive);
    const next = await world.runner.submit('failover', { node: second, by: 'manager' });
    await ended(world, next.id);
    await ended(world, world.root.id);
    for (const node of [first, 1 + second - first]) {
      world.comeBack(node);
      const { id } = await world.runner.submit('recover-node', { node });
      await ended(world, id);
    }
    await world.finish();
    return faultsOf(world);
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}
