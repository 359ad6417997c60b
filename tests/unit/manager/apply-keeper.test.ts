import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { partitionOf, replicaKey, replicaOn } from '../../../src/catalog/view.ts';
import type { ApplyError } from '../../../src/core/apply-error.ts';
import { ApplyKeeper } from '../../../src/manager/apply-keeper.ts';
import { Promotions } from '../../../src/manager/promotions.ts';
import { replicationFindings, replicationOf, whyOf } from '../../../src/manager/replication-faults.ts';
import { plan } from '../../../src/placement/plan.ts';
import { faultsOf } from '../../fakes/cleanliness.ts';
import { FakeStreams } from '../../fakes/fake-streams.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

const NODES = [1, 2, 3];
const REF = { tid: 1, pid: 0 };
const WHY = 'new row for relation "t1_p0" violates check constraint "odd"';
const SHAPE = 'logical replication target relation "tide_data.t1_p0" is missing replicated column: "n"';

let world: World;
let events: string[];
let choosing: number[];
let keeper: ApplyKeeper;

beforeEach(async () => {
  // Nodes 1 and 2 share three partitions, two of them with nobody else.
  const placement = [
    [1, 2, 3],
    [1, 2],
    [2, 1],
  ];
  world = await World.settled(NODES, [tableRecord(1, 'acct', 2, placement)]);
  events = [];
  choosing = [];
  keeper = new ApplyKeeper({
    plane: world.plane(),
    clock: world.clock,
    quorums: world.runner.quorums,
    promotions: new Promotions({ runner: world.runner, view: () => world.view }),
    view: () => world.view,
    alive: (node) => world.isAlive(node),
    isChoosing: (node) => choosing.includes(node),
    commit: (changes) => world.catalog.commit(changes),
    event: async ({ kind, text, node }) => void events.push(`${kind} ${node}: ${text}`),
    log: (level, message, facts) => void (level === 'error' && events.push(`${message} ${JSON.stringify(facts)}`)),
    reconnect: (node) => void events.push(`reconnect ${node}`),
  });
});

afterEach(() => vi.restoreAllMocks());

const error = (change: Partial<ApplyError> = {}): ApplyError => ({
  stream: 'tide_1_2',
  table: 't1_p0',
  copying: false,
  place: '745',
  message: WHY,
  tries: 12,
  forMs: 3_000,
  agoMs: 100,
  ...change,
});

async function look(...errors: ApplyError[]): Promise<void> {
  await world.clock.during(world.clock.sleep(2_000));
  keeper.hear(2, errors);
  keeper.round(NODES);
  await world.clock.during(keeper.idle());
}

const replica = (pid: number, node: number) => {
  const partition = partitionOf(world.view, 1, pid);
  return partition && replicaOn(partition, node);
};
const received = (from: number, to: number) =>
  [...(world.cluster.at(to).subscriptions.get(from)?.tables.keys() ?? [])].sort();

test('a row that cannot be applied costs its partition’s replica, and nobody else', async () => {
  await look(error());
  expect(replica(0, 2)).toEqual({ node: 2, state: 'stale', why: `what node 1 sent could not be applied: ${WHY}` });
  expect([replica(1, 2)?.state, replica(2, 2)?.state]).toEqual(['ready', 'ready']);
  expect(received(1, 2)).toEqual(['t1_p1', 't1_p2']);
  expect(world.cluster.at(1).quorum).toEqual({ count: 2, nodes: [2, 3] });
  expect(events).toEqual([
    `apply-failed 2: node 2 cannot apply what node 1 sends of acct 0 (12 tries): ${WHY}; it is taken out of the stream, its replica there is stale and is copied again`,
  ]);
  // The failures that were counted before are over; they are told for a while.
  await look(error({ agoMs: 2_100 }));
  expect(events).toHaveLength(1);
  expect((await world.run('resync-replica', { ...REF, to: 2 })).status).toBe('done');
  expect(replica(0, 2)).toEqual({ node: 2, state: 'ready' });
  expect(faultsOf(world)).toEqual([]);
});

test('no commit counts on the replica before it is taken out of the stream', async () => {
  const order: string[] = [];
  const { plane } = { plane: world.plane() };
  const stop = plane.streams.stop.bind(plane.streams);
  plane.streams.stop = async (...args) => {
    order.push(`${replica(0, 2)?.state}, ${JSON.stringify(world.cluster.at(1).quorum)}`);
    await stop(...args);
  };
  const ports = {
    plane,
    clock: world.clock,
    quorums: world.runner.quorums,
    promotions: new Promotions({ runner: world.runner, view: () => world.view }),
    view: () => world.view,
    alive: () => true,
    isChoosing: () => false,
    commit: (changes: Parameters<typeof world.catalog.commit>[0]) => world.catalog.commit(changes),
    event: async () => {},
    log: () => {},
    reconnect: () => {},
  };
  keeper = new ApplyKeeper(ports);
  await look(error());
  expect(order).toEqual(['stale, {"count":2,"nodes":[2,3]}']);
});

test('what a manager has given up, and could not take out any more, the next one takes out', async () => {
  await world.catalog.commit([{ kind: 'replica-changed', ...REF, node: 2, state: 'stale' }]);
  expect(received(1, 2)).toContain('t1_p0');
  await look(error());
  expect(received(1, 2)).toEqual(['t1_p1', 't1_p2']);
  expect(events).toEqual([
    `apply-failed 2: node 2 cannot apply what node 1 sends of acct 0 (12 tries): ${WHY}; it is taken out of the stream`,
  ]);
});

/**
 * Its stream is taken out in the moment in which an operation has seen that it flows, in the step that counts
 * the replica.
 */
async function takenOutWhileCounted(change: Partial<ApplyError> = {}): Promise<void> {
  await world.catalog.commit([{ kind: 'replica-changed', ...REF, node: 2, state: 'stale' }]);
  await world.begin('resync-replica', { ...REF, to: 2 });
  let times = 0;
  const { state: stateIn } = FakeStreams.prototype;
  vi.spyOn(FakeStreams.prototype, 'state').mockImplementation(async function (this: FakeStreams, ...args) {
    const state = await stateIn.apply(this, args);
    if (world.root.steps[world.root.step] === 'count-replica' && times++ === 0) {
      keeper.hear(2, [error(change)]);
      keeper.round(NODES);
      await keeper.idle();
    }
    return state;
  });
  await world.finish();
  expect(times).toBeGreaterThan(0);
  expect(events.join()).toContain('apply-failed');
}

test('a replica that leaves its stream while it is about to count does not count', async () => {
  await takenOutWhileCounted();
  expect(world.root.error?.code).toBe('STREAM_LOST');
  expect(received(1, 2)).toEqual(['t1_p1', 't1_p2']);
  expect(replica(0, 2)?.state).not.toBe('ready');
});

test('nor does one whose whole stream is made anew then', async () => {
  await takenOutWhileCounted({ table: null });
  expect(received(1, 2)).toEqual([]);
  expect(replica(0, 2)?.state).not.toBe('ready');
});

test('a table that does not fit is made anew, empty, in no stream', async () => {
  const before = world.cluster.at(2).replicas.get('t1_p0');
  await look(error({ message: SHAPE }));
  expect(replica(0, 2)?.state).toBe('stale');
  expect(received(1, 2)).toEqual(['t1_p1', 't1_p2']);
  expect(world.cluster.at(2).replicas.get('t1_p0')).not.toBe(before);
  expect((await world.run('resync-replica', { ...REF, to: 2 })).status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('what taking out does not help is cut, with all that came through it', async () => {
  await look(error());
  await look(error({ tries: 20, agoMs: 0 }));
  expect(replica(1, 2)?.state).toBe('ready');
  await look(error({ tries: 30, agoMs: 0 }));
  expect(replica(1, 2)?.state).toBe('stale');
  expect(world.cluster.at(2).subscriptions.has(1)).toBe(false);
  expect(events.slice(-2)[0]).toBe('reconnect 2');
});

test('a failure of no table is the whole stream’s', async () => {
  await look(error({ table: null, message: 'invalid logical replication message type "?"' }));
  expect([replica(0, 2)?.state, replica(1, 2)?.state, replica(2, 1)?.state]).toEqual(['stale', 'stale', 'ready']);
  expect(world.cluster.at(2).subscriptions.has(1)).toBe(false);
});

test('a stream that fails again after it was made anew is given up after pauses that double', async () => {
  const marker = (tries: number) => error({ table: null, message: 'not on my watch', tries, agoMs: 0 });
  const cuts: number[] = [];
  for (let second = 0; second < 200; second += 2) {
    const before = events.filter((e) => e.startsWith('apply-failed')).length;
    await look(marker(second + 10));
    if (events.filter((e) => e.startsWith('apply-failed')).length > before) cuts.push(second);
  }
  expect(cuts).toEqual([0, 10, 30, 70, 150]);
});

test('a stream whose sender is failed over is left alone: how far it has come is compared', async () => {
  choosing = [1];
  await look(error());
  expect(replica(0, 2)?.state).toBe('ready');
  expect(events).toEqual([]);
});

test('a failover that begins while the replica is given up finds the stream as it was', async () => {
  vi.spyOn(world.catalog, 'commit').mockImplementationOnce(async (changes) => {
    vi.restoreAllMocks();
    await world.catalog.commit(changes);
    choosing = [1];
  });
  await look(error());
  expect(replica(0, 2)?.state).toBe('stale');
  expect(received(1, 2)).toEqual(['t1_p0', 't1_p1', 't1_p2']);
  choosing = [];
  await look(error({ agoMs: 0 }));
  expect(received(1, 2)).toEqual(['t1_p1', 't1_p2']);
});

test('who is about to lead is not made stale: the change is cancelled first, and no other', async () => {
  world.cluster.at(2).lagging = true;
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await world.until(() => world.runner.live(world.root.id)?.waitsFor?.kind === 'lag');
  keeper.hear(2, [error()]);
  keeper.round(NODES);
  await world.until(() => world.root.cancelRequested);
  await world.clock.during(keeper.idle());
  expect(replica(0, 2)?.state).toBe('ready');
  world.cluster.at(2).lagging = false;
  expect((await world.finish()).status).toBe('cancelled');
  await look(error());
  expect(replica(0, 2)?.state).toBe('stale');
});

test('a full disk is told of once, and costs nothing', async () => {
  const full = error({ message: 'could not extend file "base/5/1": No space left on device' });
  await look(full);
  await look({ ...full, tries: 40 });
  expect(replica(0, 2)?.state).toBe('ready');
  expect(events).toEqual([
    `apply-failed 2: node 2 cannot apply what node 1 sends of acct 0 (12 tries): ${full.message}; it holds up what that stream brings`,
  ]);
});

test('what is only told of is not told all the time, however its message changes', async () => {
  const full = (place: string) =>
    error({ place, message: `could not extend file "base/5/${place}": No space left on device`, agoMs: 0 });
  for (let times = 0; times < 10; times++) await look(full('1'), full('2'));
  expect(events).toHaveLength(1);
  await world.clock.during(world.clock.sleep(61_000));
  await look(full('2'));
  expect(events).toHaveLength(2);
});

test('of much that is stale the first few are said, and how many more', async () => {
  const why = 'the stream from node 1 was broken';
  for (const pid of [0, 1])
    await world.catalog.commit([{ kind: 'replica-changed', tid: 1, pid, node: 2, state: 'stale', why }]);
  keeper.hear(2, [error(), error({ table: 't1_p1' })]);
  expect(replicationOf(world.view, keeper, 2)).toMatch(
    /^(node 2 cannot apply [^;]*; ){2}acct 0 on node 2 is stale: [^;]*; and 1 more: tide partition ls$/,
  );
});

test('what fails is shown: of the node, of the partition, by the doctor', async () => {
  keeper.hear(2, [error(), error({ table: 't1_p1', copying: true, place: '', message: 'x' })]);
  const shown = `node 2 cannot apply what node 1 sends of acct 0 (12 tries): ${WHY}`;
  const partition = partitionOf(world.view, 1, 0);
  if (!partition) throw new Error('no partition');
  expect(replicationOf(world.view, keeper, 2)).toBe(
    `${shown}; node 2 cannot copy what node 1 sends of acct 1 (12 tries): x`,
  );
  expect(replicationOf(world.view, keeper, 1)).toBeNull();
  expect(whyOf(world.view, keeper, partition, 2)).toBe(shown);
  expect(replicationFindings(world.view, keeper).map((f) => [f.node, f.name])).toEqual([
    [2, 'acct 0'],
    [2, 'acct 1'],
  ]);
  expect(keeper.copyFailure(1, 2, { tid: 1, pid: 1 })?.message).toBe('x');
  expect(keeper.copyFailure(1, 2, REF)).toBeUndefined();
});

test('one that is given up again is not copied at once, and its reason is shown', async () => {
  const moves = () => plan(world.view, { ...world.load(), heldBack: keeper.heldBack() }, { kind: 'repair' });
  await look(error());
  expect(moves().moves.map((m) => m.kind)).toEqual(['resync-replica']);
  expect((await world.run('resync-replica', { ...REF, to: 2 })).status).toBe('done');
  await look(error({ place: '800' }));
  expect(moves().moves).toEqual([]);
  expect(moves().blocked.map((b) => b.why)).toEqual([
    `the replica of acct 0 on node 2 waits: it was given up 2 times and is copied again in 10 s: what node 1 sent could not be applied: ${WHY}`,
  ]);
  expect([...keeper.heldBack().keys()]).toEqual([replicaKey(REF, 2)]);
  // It is another story each time: what helped before helps again, and nothing else is given up.
  for (const place of ['801', '802']) {
    expect((await world.run('resync-replica', { ...REF, to: 2 })).status).toBe('done');
    await look(error({ place }));
  }
  expect([replica(0, 2)?.state, replica(1, 2)?.state]).toEqual(['stale', 'ready']);
  await world.clock.during(world.clock.sleep(41_000));
  expect(moves().moves.map((m) => m.kind)).toEqual(['resync-replica']);
});
