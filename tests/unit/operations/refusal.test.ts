import { expect, test } from 'vitest';
import type { NodeId, SettingValue } from '../../../src/catalog/model.ts';
import { tideError } from '../../../src/core/errors.ts';
import { QuorumKeeper } from '../../../src/operations/quorum-keeper.ts';
import { FakePlane } from '../../fakes/fake-plane.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

/**
 * `quorum_lost` fail: what has no live follower refuses writes, what else its leader leads goes on, and
 * nothing is acknowledged by a leader alone.
 */

/** Node 1 leads two partitions, and each has one follower. */
const PLACEMENT: NodeId[][] = [
  [1, 2],
  [1, 3],
  [3, 1],
];

interface Played {
  world: World;
  effects: string[];
  settle(): Promise<void>;
  set(key: 'quorum_lost' | 'durability', value: SettingValue): Promise<void>;
}

/**
 * Clients write before and after each change of a server; they find it where a commit is acknowledged that
 * its followers may not have.
 */
async function play(fault: (n: number) => 'before' | 'after' | null = () => null, replicas = 2): Promise<Played> {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', replicas, PLACEMENT)]);
  const effects: string[] = [];
  const plane = new FakePlane(world.cluster, async (label, change) => {
    await Promise.resolve();
    effects.push(label);
    world.cluster.traffic();
    const strikes = fault(effects.length);
    if (strikes === 'before') throw tideError('NODE_UNREACHABLE', { node: 1, why: 'connection reset' });
    change();
    world.cluster.traffic();
    if (strikes === 'after') throw tideError('NODE_UNREACHABLE', { node: 1, why: 'connection reset' });
  });
  const keeper = new QuorumKeeper({
    plane,
    view: () => world.view,
    alive: (node) => world.isAlive(node),
    running: () => [],
    commit: (changes) => world.catalog.commit(changes),
    log: () => {},
  });
  const set: Played['set'] = (key, value) => world.catalog.commit([{ kind: 'setting-changed', key, value }]);
  await set('quorum_lost', 'fail');
  return { world, effects, set, settle: () => world.clock.during(keeper.settle(1)) };
}

const stateOf = ({ cluster }: World) => ({ refused: [...cluster.at(1).refused], quorum: cluster.at(1).quorum });
const LOST = { refused: ['t1_p0'], quorum: { count: 1, nodes: [3] } };
const WHOLE = { refused: [], quorum: { count: 2, nodes: [2, 3] } };

test('it refuses first, then it is waited for no more; back, it is waited for first', async () => {
  const { world, effects, settle } = await play();
  world.crash(2);
  await settle();
  expect(stateOf(world)).toEqual(LOST);
  expect(effects).toEqual(['n1: t1_p0 refuses writes', 'n1: commits wait for 2 of n3', 'n1: commits wait for 1 of n3']);
  const before = new Map(world.cluster.acknowledged);
  world.cluster.traffic();
  expect(world.cluster.acknowledged.get('t1_p0')).toBe(before.get('t1_p0'));
  expect(world.cluster.acknowledged.get('t1_p1')).toBeGreaterThan(before.get('t1_p1') ?? 0);
  effects.length = 0;
  world.cluster.at(2).alive = true;
  await settle();
  expect(stateOf(world)).toEqual(WHOLE);
  expect(effects.at(-1)).toBe('n1: t1_p0 takes writes');
  expect(world.cluster.problems).toEqual([]);
});

test('as long as somebody may still write there, its followers are waited for', async () => {
  const { world, settle } = await play();
  world.crash(2);
  const holder = { processId: 7, user: null, query: null, state: null, application: null, ageMs: 10 };
  world.cluster.at(1).holders.set('t1_p0', [holder]);
  await settle();
  expect(stateOf(world)).toEqual(WHOLE);
  world.cluster.at(1).holders.clear();
  await settle();
  expect(stateOf(world)).toEqual(LOST);
});

test.each([
  ['quorum_lost', 'allow', { refused: [], quorum: { count: 1, nodes: [3] } }],
  ['quorum_lost', 'wait', WHOLE],
  ['durability', 'async', { refused: [], quorum: { count: 0, nodes: [] } }],
] as const)('the operator sets %s to %s: writes are taken again', async (key, value, wanted) => {
  const { world, settle, set } = await play();
  world.crash(2);
  await settle();
  await set(key, value);
  await settle();
  expect(stateOf(world)).toEqual(wanted);
});

test('a follower that is back and does not listen yet holds up nobody', async () => {
  const { world, settle } = await play();
  world.crash(2);
  await settle();
  world.cluster.at(2).alive = true;
  world.cluster.at(2).lagging = true;
  await settle();
  expect(stateOf(world)).toEqual(LOST);
  world.cluster.at(2).lagging = false;
  await settle();
  expect(stateOf(world)).toEqual(WHOLE);
});

test('a refusal goes with the replica that was lost, and where somebody else leads', async () => {
  const { world, settle } = await play();
  world.crash(2);
  await settle();
  await world.catalog.commit([{ kind: 'replica-removed', tid: 1, pid: 0, node: 2 }]);
  world.cluster.at(1).refused.add('t1_p2');
  await settle();
  expect(stateOf(world)).toEqual({ ...LOST, refused: [] });
});

test('a table that wants one replica refuses nothing', async () => {
  const { world, settle } = await play(() => null, 1);
  world.crash(2);
  await settle();
  expect(stateOf(world)).toEqual({ ...LOST, refused: [] });
});

test.each(['before', 'after'] as const)(
  'cut off %s any of its changes, it is never acknowledged alone',
  async (when) => {
    for (let at = 1; ; at += 1) {
      const { world, effects, settle } = await play((n) => (n === at ? when : null));
      world.crash(2);
      await settle().catch(() => {});
      await settle().catch(() => {});
      world.cluster.at(2).alive = true;
      await settle().catch(() => {});
      await settle();
      expect(stateOf(world), `cut at ${effects[at - 1]}`).toEqual(WHOLE);
      expect(world.cluster.problems, `cut at ${effects[at - 1]}`).toEqual([]);
      if (effects.length < at) return;
    }
  },
);
