import { beforeEach, expect, test } from 'vitest';
import type { NodeId } from '../../../src/catalog/model.ts';
import { subscriptionName } from '../../../src/catalog/names.ts';
import type { SlotState } from '../../../src/catalog/retention.ts';
import { partitionOf, replicaOn } from '../../../src/catalog/view.ts';
import { Promotions } from '../../../src/manager/promotions.ts';
import { WalKeeper } from '../../../src/manager/wal-keeper.ts';
import { faultsOf } from '../../fakes/cleanliness.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

const GIB = 2 ** 30;
const REF = { tid: 1, pid: 0 };

let world: World;
let events: string[];
let reconnected: NodeId[];
/** Further back than nothing, by slot. */
let behind: Map<string, number>;

beforeEach(async () => {
  world = await World.settled(
    [1, 2, 3],
    [
      tableRecord(1, 'acct', 3, [
        [1, 2, 3],
        [2, 1, 3],
      ]),
    ],
  );
  events = [];
  reconnected = [];
  behind = new Map();
});

const keeper = () =>
  new WalKeeper({
    plane: world.plane(),
    inspector: { slots: async (node) => slotsOf(node) },
    quorums: world.runner.quorums,
    promotions: new Promotions({ runner: world.runner, view: () => world.view }),
    view: () => world.view,
    load: () => world.load(),
    alive: (node) => world.isAlive(node),
    commit: (changes) => world.catalog.commit(changes),
    event: async ({ kind, text }) => void events.push(`${kind}: ${text}`),
    log: (_level, message, facts) => void events.push(`${message} ${JSON.stringify(facts)}`),
    reconnect: (node) => void reconnected.push(node),
  });

function slotsOf(node: NodeId): Map<string, SlotState> {
  return new Map(
    [...world.cluster.at(node).slots.keys()].map((to) => {
      const name = subscriptionName(node, to);
      const bytes = behind.get(name) ?? 0;
      return [name, { keptBytes: bytes, behindBytes: bytes, isLost: false }];
    }),
  );
}

async function look(at = keeper()): Promise<void> {
  at.round([...world.view.nodes.keys()].filter((n) => world.isAlive(n)));
  for (let turn = 0; turn < 50; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
    world.clock.advance();
    world.cluster.flow();
  }
  await at.idle();
}

const stateOn = (node: NodeId, pid = 0) => {
  const partition = partitionOf(world.view, 1, pid);
  return partition && replicaOn(partition, node)?.state;
};

test('a follower that is gone and too far behind is cut, and no commit waits for it', async () => {
  world.cluster.at(3).alive = false;
  behind.set('tide_1_3', 13 * GIB);
  await look();
  expect(stateOn(3)).toBe('stale');
  expect(stateOn(3, 1)).toBe('ready');
  expect([...world.cluster.at(1).slots.keys()]).toEqual([2]);
  expect(world.cluster.at(1).quorum).toEqual({ count: 1, nodes: [2] });
  expect(events).toEqual([
    'stream-cut: node 1 keeps no more WAL for node 3, which is 13.0 GiB behind; to be copied again: 1/0',
  ]);
  expect(reconnected).toEqual([]);
  // Once is enough.
  await look();
  expect(events).toHaveLength(1);
});

test('one that is there is given its streams again, and copied', async () => {
  behind.set('tide_1_3', 13 * GIB);
  await look();
  behind.clear();
  expect(reconnected).toEqual([3]);
  expect(world.cluster.at(3).subscriptions.has(1)).toBe(false);
  expect((await world.run('resync-replica', { ...REF, to: 3 })).status).toBe('done');
  await world.clock.during(world.plane().streams.start(1, 3, [{ tid: 1, pid: 1 }], false));
  expect(faultsOf(world)).toEqual([]);
});

test('a slot that is gone makes its receiver stale, at the second look', async () => {
  world.cluster.at(1).slots.delete(3);
  const at = keeper();
  await look(at);
  expect(stateOn(3)).toBe('ready');
  await look(at);
  expect(stateOn(3)).toBe('stale');
  expect(events).toEqual([
    'stream-cut: node 1 has no WAL any more for what node 3 has missed; to be copied again: 1/0',
  ]);
});

test('who is about to lead is not made stale: the change is cancelled first', async () => {
  world.cluster.at(3).lagging = true;
  await world.begin('change-leader', { ...REF, from: 1, to: 3 });
  await world.until(() => world.runner.live(world.root.id)?.waitsFor?.kind === 'lag');
  behind.set('tide_1_3', 13 * GIB);
  const at = keeper();
  at.round([...world.view.nodes.keys()].filter((n) => world.isAlive(n)));
  await world.until(() => world.root.cancelRequested);
  await at.idle();
  expect(stateOn(3)).toBe('ready');
  world.cluster.at(3).lagging = false;
  expect((await world.finish()).status).toBe('cancelled');
  await look(at);
  expect(stateOn(3)).toBe('stale');
});

test('disks that run full and have room again are told of once', async () => {
  const at = keeper();
  for (const free of [9e11, 9e10, 9e10, 4e10, 9e11]) {
    world.freeBytes.set(2, free);
    await look(at);
  }
  expect(events).toEqual([
    'disk-low: node 2 has 9 % of its disk left, less than disk.margin: no replica goes there',
    'disk-full: node 2 has 4 % of its disk left: nothing is copied to it, and it keeps little WAL for others',
    'disk-ok: node 2 has 90 % of its disk left: replicas may go there again',
  ]);
});

test.each([300, 700, 1_000])(
  'who is too far behind is cut though a plan wants it to lead, looked at %d ms on',
  async (offsetMs) => {
    await world.run('drain-node', { node: 1, draining: true });
    expect(partitionOf(world.view, 1, 0)?.leader).not.toBe(1);
    const leader = partitionOf(world.view, 1, 0)?.leader ?? 0;
    world.cluster.at(1).lagging = true;
    behind.set(subscriptionName(leader, 1), 14 * GIB);
    const at = keeper();
    await world.begin('drain-node', { node: 1, draining: false });
    let nextMs = world.clock.nowMs() + offsetMs;
    await world.until(() => {
      if (world.clock.nowMs() >= nextMs) {
        nextMs += 1_000;
        at.round([1, 2, 3]);
      }
      return events.length > 0;
    });
    expect(events[0]).toMatch(/^stream-cut: node \d keeps no more WAL for node 1/);
    expect(world.runner.all().filter((r) => r.status === 'cancelled').length).toBeLessThan(5);
  },
);
