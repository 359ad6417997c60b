import { beforeEach, expect, test } from 'vitest';
import { subscriptionName } from '../../../src/catalog/names.ts';
import { StreamKeeper } from '../../../src/manager/stream-keeper.ts';
import { faultsOf } from '../../fakes/cleanliness.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

const NODES = [1, 2, 3];
/** As long as PostgreSQL has to have been idle; looks are a second apart. */
const LOOKS = 4;

let world: World;
let events: string[];
/** How often applying has failed, by receiver. */
let failures: Map<number, number>;

beforeEach(async () => {
  world = await World.settled(NODES, [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  events = [];
  failures = new Map();
});

const keeper = () =>
  new StreamKeeper({
    plane: world.plane(),
    inspector: { received },
    view: () => world.view,
    clock: world.clock,
    event: async ({ kind, text }) => void events.push(`${kind}: ${text}`),
    log: (_level, message, facts) => void events.push(`${message} ${JSON.stringify(facts)}`),
    reconnect: (node) => void events.push(`reconnect ${node}`),
  });

async function received(to: number) {
  const streams = [...world.cluster.at(to).subscriptions].filter(([, s]) => s.enabled);
  return new Map(
    streams.map(([from, { stalled }]) => [
      subscriptionName(from, to),
      { runs: !stalled, failures: failures.get(to) ?? 0 },
    ]),
  );
}

async function look(at: StreamKeeper, looks = LOOKS, between = () => {}): Promise<void> {
  for (let n = 0; n < looks; n++) {
    await world.clock.during(world.clock.sleep(1_000));
    between();
    at.round(NODES);
    await world.clock.during(at.idle());
  }
}

const stream = (from: number, to: number) => world.cluster.at(to).subscriptions.get(from);

test('a stream that PostgreSQL does not begin again is renewed, and brings what it had not brought', async () => {
  const broken = stream(1, 2);
  if (broken) broken.stalled = true;
  const before = world.cluster.acknowledged.get('t1_p0') ?? 0;
  world.cluster.traffic();
  expect(world.cluster.acknowledged.get('t1_p0')).toBeGreaterThan(before);
  expect(world.cluster.at(1).slots.get(2)).not.toEqual([]);
  await look(keeper());
  expect(stream(1, 2)).toMatchObject({ stalled: false, enabled: true });
  expect(events).toEqual([
    'stream-renewed: PostgreSQL of node 2 had not begun to receive from node 1 again for 3.0 s, as where its clock is set back: the stream was made anew',
  ]);
  await world.clock.during(world.clock.sleep(100));
  world.cluster.flow();
  expect(faultsOf(world)).toEqual([]);
});

test('one that runs between two looks, or fails at what it receives, is left alone', async () => {
  const broken = stream(1, 2);
  const at = keeper();
  let looks = 0;
  await look(at, 8, () => {
    if (broken) broken.stalled = ++looks % 2 === 0;
  });
  if (broken) broken.stalled = true;
  await look(at, 8, () => {
    failures.set(2, (failures.get(2) ?? 0) + 1);
  });
  expect(events).toEqual([]);
});

test('one whose sender is not reached stays as it is, with what it copies', async () => {
  const broken = stream(1, 2);
  if (broken) broken.stalled = true;
  world.cluster.linked = (a, b) => a + b !== 3;
  await look(keeper());
  expect(events).toEqual([
    'a stream could not be renewed {"from":1,"to":2,"error":"n2 does not reach n1"}',
    'reconnect 2',
  ]);
  expect([...(stream(1, 2)?.tables.keys() ?? [])]).toEqual(['t1_p0']);
  expect(stream(1, 2)?.enabled).toBe(true);
});

test('one that does not run though it was renewed is left in peace for longer every time', async () => {
  const broken = stream(1, 2);
  await look(keeper(), 50, () => {
    if (broken) broken.stalled = true;
  });
  expect(events).toHaveLength(4);
});

test('one that is not there, or disabled, is given up where replicas count on it, and only there', async () => {
  const disabled = stream(1, 2);
  if (disabled) disabled.enabled = false;
  world.cluster.unsubscribe(1, 3);
  // Between two followers nothing flows.
  world.cluster.unsubscribe(2, 3);
  const at = keeper();
  await look(at, 3);
  expect(events).toEqual([]);
  await look(at, 1);
  expect(events.sort()).toEqual(['reconnect 2', 'reconnect 3']);
});

test('looks that were too far apart count as none: it may have run in between', async () => {
  const broken = stream(1, 2);
  if (broken) broken.stalled = true;
  const at = keeper();
  await look(at, 3);
  await world.clock.during(world.clock.sleep(60_000));
  await look(at, 2);
  expect(events).toEqual([]);
  await look(at, 2);
  expect(events).toHaveLength(1);
});
