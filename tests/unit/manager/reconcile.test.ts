import { expect, test } from 'vitest';
import { partitionOf, replicaOn } from '../../../src/catalog/view.ts';
import { must } from '../../../src/core/assert.ts';
import type { Promotions } from '../../../src/manager/promotions.ts';
import { type ReconcilePorts, Reconciler } from '../../../src/manager/reconcile.ts';
import type { OperationRecord } from '../../../src/operations/operation.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

const REF = { tid: 1, pid: 0 };

const promotionsOf = (mayGo: boolean, maySwing: boolean) =>
  ({ end: async () => mayGo, maySwing: () => maySwing }) as unknown as Promotions;

/** A reconciler that no operation and no failover is in the way of. */
function reconcilerOf(world: World, other: Partial<ReconcilePorts>): Reconciler {
  return new Reconciler({
    plane: world.plane(),
    clock: world.clock,
    view: () => world.view,
    alive: (node) => world.isAlive(node),
    holderOf: () => undefined,
    isChoosing: () => false,
    promotions: promotionsOf(true, false),
    commit: (changes) => world.catalog.commit(changes),
    quorums: world.runner.quorums,
    log: () => {},
    event: async () => {},
    ...other,
  });
}

/**
 * Node 1 leads, and its slot for node 3 is gone, as where PostgreSQL has given it up; what node 3 is when its
 * stream is made anew is noted.
 */
async function broken(isPromoted = false) {
  const world = await World.settled(
    [1, 2, 3],
    [
      tableRecord(1, 'acct', 3, [
        [1, 2, 3],
        [2, 1, 3],
      ]),
    ],
  );
  const stateOf3 = () => replicaOn(must(partitionOf(world.view, 1, 0), 'partition'), 3)?.state;
  const made: { state: string | undefined; waitedFor: boolean }[] = [];
  const subscribe = world.cluster.subscribe.bind(world.cluster);
  world.cluster.subscribe = (from, to) => {
    if (from === 1 && to === 3)
      made.push({ state: stateOf3(), waitedFor: world.cluster.at(1).quorum.nodes.includes(3) });
    return subscribe(from, to);
  };
  world.cluster.at(1).slots.delete(3);
  const reconciler = reconcilerOf(world, { promotions: promotionsOf(!isPromoted, false) });
  reconciler.nodeReturned(3);
  const round = () => world.clock.during(reconciler.round());
  return { round, made, stateOf3, isDue: () => reconciler.isDue(3) };
}

test('a broken stream is made anew when nobody counts on what it has lost', async () => {
  const { round, made, stateOf3, isDue } = await broken();
  await round();
  expect(made).toEqual([{ state: 'stale', waitedFor: false }]);
  expect(stateOf3()).toBe('stale');
  expect(isDue()).toBe(false);
});

test('while who followed through it is about to lead, the broken stream is left alone', async () => {
  const { round, made, stateOf3, isDue } = await broken(true);
  await round();
  await round();
  expect(made).toEqual([]);
  expect(stateOf3()).toBe('ready');
  expect(isDue()).toBe(true);
});

/**
 * Node 1 leads, and its stream to node 3 is whole, but does not carry the partition. `mayGo`: nobody is
 * about to make node 3 the leader. `maySwing`: somebody is, when the quorum has changed.
 */
async function unfed(mayGo: boolean, maySwing: boolean) {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  await world.clock.during(world.plane().streams.stop(1, 3, REF));
  let waitedFor: boolean | null = null;
  const reconciler = reconcilerOf(world, {
    promotions: promotionsOf(mayGo, maySwing),
    commit: (changes) => {
      waitedFor = world.cluster.at(1).quorum.nodes.includes(3);
      return world.catalog.commit(changes);
    },
  });
  reconciler.nodeReturned(3);
  await world.clock.during(reconciler.round());
  const state = replicaOn(must(partitionOf(world.view, 1, 0), 'partition'), 3)?.state;
  return { state, waitedFor, isDue: reconciler.isDue(3), isWaitedFor: world.cluster.at(1).quorum.nodes.includes(3) };
}

test('a follower that its leader does not feed is waited for no more, and then stale', async () => {
  expect(await unfed(true, false)).toEqual({ state: 'stale', waitedFor: false, isDue: false, isWaitedFor: false });
});

test.each([
  ['before', false, false],
  ['while the quorum changes', true, true],
])(
  'a follower that its leader does not feed, and that is about to lead since %s, is not made stale under its operation',
  async (_when, mayGo, maySwing) => {
    expect(await unfed(mayGo, maySwing)).toEqual({ state: 'ready', waitedFor: null, isDue: true, isWaitedFor: true });
  },
);

test('hinges that lead to a node which is out are turned though an operation has the partition, but for that of its next leader', async () => {
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, [[1, 2]])]);
  await world.catalog.commit([{ kind: 'node-changed', id: 4, change: { outage: { sinceMs: 0, by: 'manager' } } }]);
  for (const node of [2, 3]) world.cluster.at(node).hinges.set('t1_p0', { kind: 'node', node: 4 });
  const reconciler = reconcilerOf(world, {
    holderOf: () => ({ kind: 'change-leader', input: { ...REF, from: 1, to: 2 } }) as unknown as OperationRecord,
  });
  reconciler.hear([{ kind: 'setting-changed', key: 'min_nodes', value: 1 }]);
  await world.clock.during(reconciler.round());
  expect(world.cluster.at(3).hinges.get('t1_p0')).toEqual({ kind: 'node', node: 4 });
  reconciler.hear([{ kind: 'node-changed', id: 5, change: { state: 'decommissioned' } }]);
  await world.clock.during(reconciler.round());
  const hinges = [2, 3].map((node) => world.cluster.at(node).hinges.get('t1_p0'));
  expect(hinges).toEqual([
    { kind: 'node', node: 4 },
    { kind: 'node', node: 1 },
  ]);
});

test('a hinge is turned by what the catalog says in that moment, not when the round began', async () => {
  const placement = [
    [1, 2, 3],
    [1, 2, 3],
  ];
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 3, placement)]);
  await world.catalog.commit([{ kind: 'node-changed', id: 4, change: { outage: { sinceMs: 0, by: 'manager' } } }]);
  for (const pid of [0, 1]) world.cluster.at(2).hinges.set(`t1_p${pid}`, { kind: 'node', node: 4 });
  const plane = world.plane();
  const point = plane.hinges.point.bind(plane.hinges);
  let hasBegun = false;
  let mayGoOn = false;
  plane.hinges.point = async (node, table, pid, to) => {
    hasBegun = true;
    while (!mayGoOn) await world.clock.sleep(10);
    return point(node, table, pid, to);
  };
  const reconciler = reconcilerOf(world, { plane });
  reconciler.hear([{ kind: 'leader-changed', ...REF, leader: 1 }]);
  let isOver = false;
  void reconciler.round().then(() => {
    isOver = true;
  });
  await world.until(() => hasBegun);
  expect((await world.run('change-leader', { tid: 1, pid: 1, from: 1, to: 2 })).status).toBe('done');
  mayGoOn = true;
  await world.until(() => isOver);
  expect(world.cluster.at(2).hinges.get('t1_p0')).toEqual({ kind: 'node', node: 1 });
  expect(world.cluster.at(2).hinges.get('t1_p1')).toEqual({ kind: 'local' });
});
