import { describe, expect, test, vi } from 'vitest';
import type { CatalogChange } from '../../../src/catalog/change.ts';
import { fedThrough, partitionOf, replicaOn } from '../../../src/catalog/view.ts';
import { must } from '../../../src/core/assert.ts';
import { Promotions } from '../../../src/manager/promotions.ts';
import { Reconciler } from '../../../src/manager/reconcile.ts';
import { partitionLock } from '../../../src/operations/operation.ts';
import { faultsOf } from '../../fakes/cleanliness.ts';
import { FakeStreams } from '../../fakes/fake-streams.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

/**
 * Streams that are cut, disabled or have lost rows under operations that need them, with the manager's
 * reconciling beside them.
 */

const REF = { tid: 1, pid: 0 };
const LOOK_MS = 3_000;

const stepOf = (world: World) => world.runner.kindOf(world.root).steps[world.root.step]?.name;
const stateOn = (world: World, node: number) =>
  replicaOn(must(partitionOf(world.view, 1, 0), 'partition'), node)?.state;

const isCopying = (world: World) => world.cluster.at(1).copySlots.size > 0 && world.rootData.copySlot !== undefined;

/** As a renewal leaves it whose manager is killed half way. */
function disable(world: World, from: number, to: number): void {
  must(world.cluster.at(to).subscriptions.get(from), `stream from ${from} to ${to}`).enabled = false;
}

/**
 * As PostgreSQL leaves one that has fallen too far behind, and whose subscription somebody has taken off it.
 */
function breakStream(world: World, from: number, to: number): void {
  disable(world, from, to);
  world.cluster.at(from).slots.delete(to);
}

/** Reconciles node 3 again and again until nothing is under way, and once more. */
async function settle(world: World): Promise<void> {
  const reconciler = new Reconciler({
    plane: world.plane(),
    clock: world.clock,
    view: () => world.view,
    alive: (node) => world.isAlive(node),
    holderOf: (tid, pid) => world.runner.holderOf(partitionLock(tid, pid)),
    isChoosing: () => false,
    promotions: new Promotions({ runner: world.runner, view: () => world.view }),
    commit: (changes: CatalogChange[]) => world.catalog.commit(changes),
    quorums: world.runner.quorums,
    log: () => {},
    event: async () => {},
  });
  let nextMs = 0;
  let round: Promise<void> | null = null;
  await world.until(() => {
    if (world.clock.nowMs() > nextMs && round === null) {
      nextMs = world.clock.nowMs() + LOOK_MS;
      reconciler.nodeReturned(3);
      round = reconciler.round().finally(() => {
        round = null;
      });
    }
    return world.runner.unended().length === 0;
  });
  reconciler.nodeReturned(3);
  await world.clock.during(reconciler.round());
}

describe.each([
  ['add-replica', { ...REF, to: 4 }],
  ['move-replica', { ...REF, from: 1, to: 4 }],
])('%s whose stream from the leader is lost when it has caught up', (kind, input) => {
  test('is taken back: the rows that came meanwhile are not there', async () => {
    const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, [[1, 2]])]);
    await world.begin(kind, input);
    await world.until(() => stepOf(world) === 'connect-followers');
    world.cluster.at(4).alive = false;
    world.cluster.at(1).slots.delete(4);
    world.cluster.at(1).publications.delete(4);
    const before = world.cluster.acknowledged.get('t1_p0') ?? 0;
    const untilMs = world.clock.nowMs() + 20_000;
    await world.until(() => {
      world.cluster.traffic();
      return world.clock.nowMs() > untilMs;
    });
    expect(world.cluster.acknowledged.get('t1_p0')).toBeGreaterThan(before);
    world.cluster.at(4).alive = true;
    expect(await world.finish()).toMatchObject({ status: 'failed', error: { code: 'STREAM_LOST' } });
    expect(stateOn(world, 4)).toBeUndefined();
    expect(faultsOf(world)).toEqual([]);
  });
});

test('a copy whose stream is only disabled goes on, and what else it feeds with it', async () => {
  const other = tableRecord(2, 'branch', 2, [[1, 4]]);
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, [[1, 2]]), other]);
  await world.begin('add-replica', { ...REF, to: 4 });
  await world.until(() => isCopying(world));
  disable(world, 1, 4);
  expect((await world.finish()).status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('a copy from a node that is being failed over leaves its streams alone: they say who has most', async () => {
  const others = [tableRecord(2, 'branch', 2, [[1, 4]]), tableRecord(3, 'third', 2, [[1, 5]])];
  const world = await World.settled([1, 2, 3, 4, 5], [tableRecord(1, 'acct', 2, [[1, 2]]), ...others]);
  world.arrive();
  await world.begin('add-replica', { ...REF, to: 4 });
  await world.until(() => isCopying(world));
  // It lets nobody in but the manager, and one of its followers is slow to end what it receives.
  world.cluster.at(1).fenced = true;
  world.arrive();
  const original = FakeStreams.prototype.cut;
  const cut = vi.spyOn(FakeStreams.prototype, 'cut');
  const slow = async () => {
    await world.clock.sleep(5_000);
    throw new Error('it still applies rows');
  };
  let isSlow = true;
  cut.mockImplementation(async function (this: FakeStreams, from, to) {
    if (to !== 5 || !isSlow) return original.call(this, from, to);
    isSlow = false;
    return slow();
  });
  const failover = await world.runner.submit('failover', { node: 1, by: 'manager' });
  await world.until(() => world.runner.get(failover.id)?.endedMs !== null);
  cut.mockRestore();
  expect(isSlow).toBe(false);
  expect(partitionOf(world.view, 2, 0)?.leader).toBe(4);
});

test('a stream that was only disabled goes on, and its follower still counts', async () => {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  disable(world, 1, 3);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await settle(world);
  expect((await world.finish()).status).toBe('done');
  expect(stateOn(world, 3)).toBe('ready');
  expect(faultsOf(world)).toEqual([]);
});

test('a change of leader does not wait for a follower whose broken stream waits for the change', async () => {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  breakStream(world, 1, 3);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await settle(world);
  expect(world.root.status).toBe('done');
  expect(stateOn(world, 3)).toBe('stale');
});

test('two changes of leader do not wait for what only the other keeps from being given up', async () => {
  const placement = [
    [1, 2, 3],
    [2, 1, 3],
  ];
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 3, placement)]);
  for (const from of [1, 2]) breakStream(world, from, 3);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await world.runner.submit('change-leader', { tid: 1, pid: 1, from: 2, to: 1 });
  await settle(world);
  expect(world.runner.all().map((r) => r.status)).toEqual(['done', 'done']);
});

test('who is about to lead by a broken stream is kept from it', async () => {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  breakStream(world, 1, 3);
  await world.begin('change-leader', { ...REF, from: 1, to: 3 });
  await settle(world);
  expect(world.root.status).toBe('cancelled');
  expect(stateOn(world, 3)).toBe('stale');
  expect(partitionOf(world.view, 1, 0)?.leader).toBe(1);
});

test('a move from another follower, which waits for it, does not keep a broken stream of the new replica from being given up', async () => {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 2, [[1, 2]])]);
  await world.begin('move-replica', { ...REF, from: 2, to: 3 });
  await world.until(() => stepOf(world) === 'drop-rows');
  world.crash(2);
  breakStream(world, 1, 3);
  const promotions = new Promotions({ runner: world.runner, view: () => world.view });
  expect(await promotions.end(1, 3, fedThrough(world.view, 1, 3))).toBe(true);
});
