import { nodeRecord, tableRecord } from '../../../fakes/records.ts';
import { type Fault, World } from '../../../fakes/world.ts';

/** One way to run a kind of operation, in a world of its own. */
export interface Scenario {
  readonly name: string;
  readonly kind: string;
  readonly input: object;
  readonly world: () => Promise<World>;
  /**
   * What befalls it at every change; all there is where nothing is said. Moves of its own are disturbed as
   * kinds of their own.
   */
  readonly modes?: readonly Fault['mode'][];
  /**
   * Why an operation that was undone leaves another configuration than it found; without it, it must be the
   * same.
   */
  readonly undoneDiffers?: string;
}

const acct = (...placement: number[][]) => tableRecord(1, 'acct', 2, placement);
const fourNodes = () => World.settled([1, 2, 3, 4], [acct([1, 2], [2, 3])]);
const REF = { tid: 1, pid: 0 };

async function withStaleReplica(): Promise<World> {
  const world = await fourNodes();
  await world.plane().streams.stopSending(1, 2, REF);
  await world.catalog.commit([{ kind: 'replica-changed', ...REF, node: 2, state: 'stale' }]);
  await world.settleQuorums();
  return world;
}

async function withNodeThatJoins(): Promise<World> {
  const world = await fourNodes();
  world.cluster.servers.set(5, new (world.cluster.at(1).constructor as new (id: number) => never)(5));
  await world.catalog.commit([{ kind: 'node-added', node: nodeRecord(5, 'joining') }]);
  return world;
}

const withSingleReplicas = () => World.settled([1, 2, 3], [tableRecord(1, 'log', 1, [[1], [2]])]);

async function withDrainedNode(before: () => Promise<World>): Promise<World> {
  const world = await before();
  await world.run('drain-node', { node: 1, draining: true });
  world.effects.length = 0;
  return world;
}

async function withNodeDrainedBefore(): Promise<World> {
  const world = await World.settled([1, 2, 3, 4], [acct([2, 1], [2, 3])]);
  await world.catalog.commit([{ kind: 'node-changed', id: 1, change: { draining: true } }]);
  return world;
}

/**
 * Node 1 leads a partition with two followers, one with one, one alone, and follows in one; it dies when node
 * 3 is a row behind.
 */
async function withDeadNode(): Promise<World> {
  const world = await World.settled([1, 2, 3, 4], [acct([1, 2, 3], [1, 4], [2, 1], [1])]);
  world.hingesFollow = true;
  world.cluster.at(3).lagging = true;
  world.cluster.traffic();
  world.crash(1);
  world.cluster.at(3).lagging = false;
  return world;
}

async function withFailedOver(): Promise<World> {
  const world = await withDeadNode();
  await world.run('failover', { node: 1, by: 'manager' });
  world.effects.length = 0;
  return world;
}

/** Somebody has given up what only node 1 has. */
async function withLostRows(): Promise<World> {
  const world = await withFailedOver();
  world.cluster.acknowledged.delete('t1_p3');
  return world;
}

async function withReturnedNode(): Promise<World> {
  const world = await withFailedOver();
  await world.run('give-up-node', { node: 1 });
  world.comeBack(1);
  world.effects.length = 0;
  return world;
}

async function withFencedNode(): Promise<World> {
  const world = await withFailedOver();
  world.comeBack(1);
  return world;
}

const decommissionOf = (nodes: number[], placement: Record<string, number[]>) => ({
  nodes,
  placement: Object.fromEntries(
    Object.entries(placement).map(([key, [leader = 0, ...rest]]) => [key, { leader, nodes: [leader, ...rest].sort() }]),
  ),
});

/**
 * Every kind in every shape that takes another way through its steps; a test demands one for each kind there
 * is.
 */
export const SCENARIOS: readonly Scenario[] = [
  {
    name: 'failover',
    kind: 'failover',
    input: { node: 1, by: 'manager' },
    world: withDeadNode,
    undoneDiffers: 'the node stays out',
  },
  {
    name: 'failover with a leader that the operator chose',
    kind: 'failover',
    input: { node: 1, by: 'operator', recover: { ...REF, to: 2 } },
    world: withDeadNode,
    undoneDiffers: 'the node stays out',
  },
  { name: 'recover-node', kind: 'recover-node', input: { node: 1 }, world: withFencedNode },
  { name: 'recover-node that was given up', kind: 'recover-node', input: { node: 1 }, world: withReturnedNode },
  { name: 'give-up-node', kind: 'give-up-node', input: { node: 1 }, world: withFailedOver },
  { name: 'drop-node', kind: 'drop-node', input: { node: 1, lost: ['1/3'] }, world: withLostRows },
  { name: 'add-replica', kind: 'add-replica', input: { ...REF, to: 4 }, world: fourNodes },
  {
    name: 'remove-replica',
    kind: 'remove-replica',
    input: { ...REF, from: 3 },
    world: () => World.settled([1, 2, 3, 4], [acct([1, 2, 3], [2, 3])]),
  },
  { name: 'change-leader', kind: 'change-leader', input: { ...REF, from: 1, to: 2 }, world: fourNodes },
  { name: 'move-replica of a follower', kind: 'move-replica', input: { ...REF, from: 2, to: 4 }, world: fourNodes },
  { name: 'move-replica of a leader', kind: 'move-replica', input: { ...REF, from: 1, to: 4 }, world: fourNodes },
  {
    name: 'resync-replica',
    kind: 'resync-replica',
    input: { ...REF, to: 2 },
    world: withStaleReplica,
    undoneDiffers: 'a stale replica is worth nothing: it is gone',
  },
  {
    name: 'create-table',
    kind: 'create-table',
    input: {
      table: tableRecord(2, 'item', 2, [
        [3, 4],
        [4, 1],
      ]),
    },
    world: fourNodes,
  },
  { name: 'drop-table', kind: 'drop-table', input: { tid: 1, name: 'acct', partitions: 2 }, world: fourNodes },
  {
    name: 'join-node',
    kind: 'join-node',
    input: { node: 5 },
    world: withNodeThatJoins,
    undoneDiffers: 'its id is never used again',
  },
  {
    name: 'drain-node',
    kind: 'drain-node',
    input: { node: 1, draining: true },
    world: fourNodes,
  },
  {
    name: 'drain-node of a single replica',
    kind: 'drain-node',
    input: { node: 1, draining: true },
    world: withSingleReplicas,
  },
  {
    name: 'drain-node alone',
    kind: 'drain-node',
    input: { node: 1, draining: true, alone: true },
    world: () => World.settled([1, 2], [acct([1, 2], [2, 1]), tableRecord(2, 'log', 1, [[1]])]),
  },
  {
    name: 'drain-node off',
    kind: 'drain-node',
    input: { node: 1, draining: false },
    world: () => withDrainedNode(fourNodes),
  },
  {
    name: 'drain-node off, of a single replica',
    kind: 'drain-node',
    input: { node: 1, draining: false },
    world: () => withDrainedNode(withSingleReplicas),
  },
  {
    name: 'drain-node off, drained by an older version',
    kind: 'drain-node',
    input: { node: 1, draining: false },
    world: withNodeDrainedBefore,
    undoneDiffers: 'moves that had ended stay',
  },
  {
    name: 'rebalance',
    modes: ['manager-killed', 'cancelled'],
    kind: 'rebalance',
    input: { goal: 'balance', why: 'a node came' },
    undoneDiffers: 'moves that had ended stay',
    world: () => World.settled([1, 2, 3], [acct([1, 2], [2, 1], [1, 2])]),
  },
  {
    name: 'decommission',
    kind: 'decommission',
    input: decommissionOf([2], { '1/0': [1, 2], '1/1': [2, 3] }),
    world: fourNodes,
  },
  {
    name: 'decommission of two',
    modes: ['manager-killed'],
    kind: 'decommission',
    input: decommissionOf([1, 2], { '1/0': [1, 2], '1/1': [2, 3] }),
    world: () => World.settled([1, 2, 3, 4, 5], [acct([1, 2], [2, 3])]),
  },
];
