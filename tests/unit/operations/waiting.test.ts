import { expect, test } from 'vitest';
import { partitionOf } from '../../../src/catalog/view.ts';
import { must } from '../../../src/core/assert.ts';
import type { WaitReason } from '../../../src/core/wait-reason.ts';
import { Balancer } from '../../../src/manager/balancer.ts';
import type { Blocker } from '../../../src/operations/ports.ts';
import { faultsOf, placementOf } from '../../fakes/cleanliness.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

/** What operations wait for, what they say meanwhile, and whom they do not wait for. */

const REF = { tid: 1, pid: 0 };
const threeReplicas = () => World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, [[1, 2, 3]])]);
const session: Blocker = {
  processId: 4711,
  user: 'anna',
  query: 'UPDATE acct\n   SET n = 1',
  state: 'idle in transaction',
  application: 'psql',
  ageMs: 60_000,
};

const waits = (world: World): WaitReason | null => world.runner.live(world.root.id)?.waitsFor ?? null;
const waitsFor = (world: World, kind: WaitReason['kind']) => world.until(() => waits(world)?.kind === kind);
const swings = (world: World) => world.changes().filter((c) => c.startsWith('n1: swing'));

test('an old transaction makes the swing wait, without touching the lock, and it is named', async () => {
  const world = await threeReplicas();
  world.cluster.at(1).holders.set('t1_p0', [session]);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await waitsFor(world, 'transaction');
  expect(waits(world)).toEqual({
    kind: 'transaction',
    text:
      'a transaction that has used the partition is open: pid 4711 of anna (psql) on node 1, open for 60 s, ' +
      'idle in transaction: UPDATE acct SET n = ?',
    node: 1,
    pid: 4711,
    user: 'anna',
    query: 'UPDATE acct SET n = ?',
    ageSeconds: 60,
  });
  expect(world.root.pauses).toEqual([]);
  world.cluster.at(1).holders.clear();
  expect((await world.finish()).status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('it can be cancelled while it waits, and everything is as before', async () => {
  const world = await threeReplicas();
  const before = placementOf(world);
  world.cluster.at(1).holders.set('t1_p0', [session]);
  await world.begin('move-replica', { ...REF, from: 1, to: 4 });
  await waitsFor(world, 'transaction');
  await world.runner.cancel(world.root.id);
  expect((await world.finish()).status).toBe('cancelled');
  expect(swings(world)).toEqual([]);
  expect(placementOf(world)).toEqual(before);
  expect(faultsOf(world)).toEqual([]);
});

test('a manager that starts anew goes on waiting, and says so again', async () => {
  const world = await threeReplicas();
  world.cluster.at(1).holders.set('t1_p0', [session]);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await waitsFor(world, 'transaction');
  await world.restart();
  await waitsFor(world, 'transaction');
  world.cluster.at(1).holders.clear();
  expect((await world.finish()).status).toBe('done');
});

test('a manager that starts anew shows no less progress than the one before', async () => {
  const world = await threeReplicas();
  world.cluster.at(1).holders.set('t1_p0', [session]);
  await world.runner.submit('decommission', { nodes: [1], placement: {} }, null, { bytesPlanned: 1e6 });
  await world.until(() => (world.runner.live(1)?.bytesDone ?? 0) > 10_000);
  const { bytesDone, bytesTotal } = must(world.runner.live(1), 'operation');
  await world.restart();
  const kept = must(world.runner.get(1), 'operation');
  expect(kept.bytesTotal).toBe(bytesTotal);
  expect(Math.floor((100 * kept.bytesDone) / bytesTotal)).toBe(Math.floor((100 * bytesDone) / bytesTotal));
});

test('a short transaction is tried, backed off from and kept as a pause', async () => {
  const world = await threeReplicas();
  world.cluster.at(1).holders.set('t1_p0', [{ ...session, ageMs: 20 }]);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await world.until(() => world.root.pauses.length >= 3);
  expect(waits(world)).toMatchObject({ kind: 'lock', text: expect.stringMatching(/^backed off \d times: the lock/) });
  world.cluster.at(1).holders.clear();
  const { pauses, status } = await world.finish();
  expect(status).toBe('done');
  expect(pauses.map((p) => `${p.purpose} on n${p.node}: ${p.outcome}`)).toEqual([
    ...Array(pauses.length - 3).fill('leader on n1: backed-off'),
    'leader on n1: done',
    'hinge on n2: done',
    'hinge on n1: done',
  ]);
  expect(Math.max(...pauses.map((p) => p.pauseMs))).toBeLessThanOrEqual(world.view.settings['move.max_pause']);
});

test('transactions that follow one another make the pause grow, which is told and shown, and name nobody', async () => {
  const world = await threeReplicas();
  const { holders } = world.cluster.at(1);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  let processId = 100;
  const grownTo = (ms: number) =>
    world.until(() => {
      holders.set('t1_p0', [{ ...session, processId: processId++, ageMs: 600 }]);
      return waits(world)?.text.includes(`${ms} ms, of 2000 ms at most`) ?? false;
    });
  await grownTo(400);
  expect(waits(world)).toMatchObject({
    kind: 'lock',
    query: null,
    text: expect.stringMatching(
      /^transactions of 600 ms and more follow one another without a gap: the last 6 tries met one; the next may hold the partition up for 400 ms/,
    ),
  });
  // No older than the budget, they are tried.
  await grownTo(2000);
  expect(waits(world)?.text).toMatch(/^backed off \d+ times: the lock was not free in time; tries again; the next may/);
  holders.clear();
  expect((await world.finish()).status).toBe('done');
  // Whatever is turned next begins anew.
  expect(world.rootData.patience).toMatchObject({ at: expect.stringContaining('swing') });
});

test('a transaction longer than the limit is named, however long it stays, and the pause does not grow for it', async () => {
  const world = await threeReplicas();
  const { holders } = world.cluster.at(1);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  const beganMs = world.clock.nowMs() - 3_000;
  await world.until(() => {
    const ageMs = world.clock.nowMs() - beganMs;
    holders.set('t1_p0', [{ ...session, ageMs }]);
    return ageMs > 30_000;
  });
  expect(waits(world)).toMatchObject({ kind: 'transaction', pid: session.processId });
  expect(world.rootData.patience).toMatchObject({ tries: 1 });
  holders.clear();
  expect((await world.finish()).status).toBe('done');
});

test('a follower that does not keep up is waited for without the lock', async () => {
  const world = await threeReplicas();
  world.cluster.at(1).holders.set('t1_p0', [session]);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await waitsFor(world, 'transaction');
  world.cluster.at(3).lagging = true;
  world.cluster.at(1).holders.clear();
  await waitsFor(world, 'lag');
  expect(waits(world)?.text).toBe('node 3 would not catch up within a third of the 200 ms budget');
  expect(world.root.pauses).toEqual([]);
  world.cluster.at(3).lagging = false;
  expect((await world.finish()).status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('a follower that does not listen to the next leader yet is waited for before commits wait for it', async () => {
  const world = await threeReplicas();
  world.cluster.at(3).lagging = true;
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await waitsFor(world, 'lag');
  expect(waits(world)?.text).toBe('rows that node 2 wrote are still on their way to node 3');
  world.cluster.at(3).lagging = false;
  expect((await world.finish()).status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('a follower that is not alive does not hold up the change: it is stale and will be copied again', async () => {
  const world = await threeReplicas();
  world.cluster.at(3).alive = false;
  const record = await world.run('change-leader', { ...REF, from: 1, to: 2 });
  expect(record.status).toBe('done');
  expect(world.view.tables.get(1)?.partitions[0]).toMatchObject({
    leader: 2,
    replicas: [
      { node: 1, state: 'ready' },
      { node: 2, state: 'ready' },
      { node: 3, state: 'stale' },
    ],
  });
  expect(faultsOf(world)).toEqual([]);
  world.cluster.at(3).alive = true;
  expect((await world.run('resync-replica', { ...REF, to: 3 })).status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('a bystander that is down delays no move', async () => {
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, [[1, 2]])]);
  world.cluster.at(3).alive = false;
  const record = await world.run('move-replica', { ...REF, from: 1, to: 4 });
  expect(record.status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('hinges settle only when nobody looks at the new leader with eyes from before the swing', async () => {
  const world = await threeReplicas();
  world.cluster.at(2).snapshots.push({ ...session, sinceMs: 0 });
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await waitsFor(world, 'transaction');
  expect(waits(world)).toMatchObject({ node: 2, pid: 4711 });
  expect(waits(world)?.text).toContain('a transaction older than the change of leader is open');
  expect(world.cluster.at(1).hinges.get('t1_p0')).toEqual({ kind: 'forward', epoch: 2 });
  await expect(world.runner.cancel(world.root.id)).rejects.toMatchObject({ code: 'OP_PAST_NO_RETURN' });
  world.cluster.traffic();
  expect(world.cluster.problems).toEqual([]);
  world.cluster.at(2).snapshots.length = 0;
  expect((await world.finish()).status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('a copy says which writer its slot waits for', async () => {
  const world = await threeReplicas();
  world.cluster.at(1).writer = session;
  await world.begin('add-replica', { ...REF, to: 4 });
  await waitsFor(world, 'slot');
  expect(waits(world)?.text).toContain('a replication slot starts when it ends: pid 4711 of anna');
  world.cluster.at(1).writer = null;
  expect((await world.finish()).status).toBe('done');
});

test('operations on one partition go one after the other, and the later one says for whom it waits', async () => {
  const world = await threeReplicas();
  world.cluster.at(1).holders.set('t1_p0', [session]);
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await waitsFor(world, 'transaction');
  const second = await world.runner.submit('change-leader', { ...REF, from: 1, to: 3 });
  await world.until(() => world.runner.live(second.id)?.waitsFor?.kind === 'lock');
  expect(world.runner.live(second.id)?.waitsFor?.text).toBe(
    'operation 1 (change-leader acct 0: leader n1 → n2) goes first',
  );
  world.cluster.at(1).holders.clear();
  await world.finish();
  expect(world.runner.get(second.id)).toMatchObject({
    status: 'failed',
    error: { message: 'node 3 cannot become the leader of acct 0: node 2 leads it now, not node 1' },
  });
  expect(world.view.tables.get(1)?.partitions[0]?.leader).toBe(2);
  expect(faultsOf(world)).toEqual([]);
});

test('what is refused when its turn comes changes nothing and says why', async () => {
  const world = await threeReplicas();
  const record = await world.run('move-replica', { ...REF, from: 1, to: 2 });
  expect(record).toMatchObject({ status: 'failed', startedMs: null, error: { code: 'REPLICA_EXISTS' } });
  expect(world.changes().filter((c) => !c.startsWith('op '))).toEqual([]);
});

test('what has ended, or does not exist, cannot be cancelled', async () => {
  const world = await threeReplicas();
  const { id } = await world.run('change-leader', { ...REF, from: 1, to: 2 });
  await expect(world.runner.cancel(id)).rejects.toMatchObject({ code: 'OP_ENDED' });
  await expect(world.runner.cancel(99)).rejects.toMatchObject({ code: 'OP_UNKNOWN' });
});

test('two managers on one store: the second writer is refused, not merged', async () => {
  const world = await threeReplicas();
  const { id } = await world.run('change-leader', { ...REF, from: 1, to: 2 });
  const [mine, theirs] = [await world.journal(), await world.journal()];
  await mine.update(id, (r) => ({ ...r, bytesDone: 1 }));
  await expect(theirs.update(id, (r) => ({ ...r, bytesDone: 2 }))).rejects.toThrow('another manager');
});

test('no rows are dropped while the leader is away: what it wrote may still lie on its disk', async () => {
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, [[1, 2, 3]])]);
  world.cluster.at(3).lagging = true;
  await world.begin('remove-replica', { ...REF, from: 3 });
  await waitsFor(world, 'lag');
  world.cluster.at(1).alive = false;
  world.cluster.at(3).lagging = false;
  await waitsFor(world, 'node');
  expect(waits(world)?.text).toBe('node 1 is away, and rows that it wrote may still have to come to node 3');
  expect(world.cluster.at(3).replicas.has('t1_p0')).toBe(true);
  world.cluster.at(1).alive = true;
  expect((await world.finish()).status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('a follower that comes back during a copy is connected with the new replica', async () => {
  const world = await threeReplicas();
  world.cluster.at(3).alive = false;
  world.cluster.at(4).lagging = true;
  await world.begin('add-replica', { ...REF, to: 4 });
  await world.until(() => ['copy', 'lag'].includes(waits(world)?.kind ?? ''));
  world.cluster.at(3).alive = true;
  world.cluster.at(4).lagging = false;
  expect((await world.finish()).status).toBe('done');
  expect(faultsOf(world)).toEqual([]);
});

test('a drain whose follower was silent for a moment copies it again, since nobody else does meanwhile', async () => {
  const placement = [
    [1, 2, 3],
    [2, 1, 3],
  ];
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 3, placement)]);
  world.cluster.at(3).alive = false;
  const balancer = new Balancer(async () => {});
  await world.begin('drain-node', { node: 1, draining: true, alone: false });
  let nextMs = 0;
  await world.until(() => {
    if (partitionOf(world.view, 1, 0)?.leader === 2) world.cluster.at(3).alive = true;
    if (world.clock.nowMs() > nextMs) {
      nextMs = world.clock.nowMs() + 500;
      void balancer.round(world.runner, world.view, world.load());
    }
    return world.runner.unended().length === 0;
  });
  expect((await world.finish()).status).toBe('done');
  expect(world.runner.all().map((r) => `${r.kind} ${r.status}`)).toContain('resync-replica done');
  expect(faultsOf(world)).toEqual([]);
});

test('a next leader whose clients still go to an earlier one is led to the present one first', async () => {
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  // A failover has just made node 1 the leader; node 4 is back, and leads its own to whoever leads.
  world.cluster.at(3).hinges.set('t1_p0', { kind: 'node', node: 4 });
  let led: unknown = null;
  world.catalog.onChange((view) => {
    if (led !== null || partitionOf(view, 1, 0)?.leader !== 3) return;
    led = world.cluster.at(3).hinges.get('t1_p0');
    world.cluster.at(4).hinges.set('t1_p0', { kind: 'node', node: 3 });
    world.cluster.traffic();
  });
  expect((await world.run('change-leader', { ...REF, from: 1, to: 3 })).status).toBe('done');
  expect(led).toEqual({ kind: 'node', node: 1 });
  expect(world.cluster.problems).toEqual([]);
});

test('a transaction on the next leader that holds its hinge is waited for without touching it, and named', async () => {
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  world.cluster.at(3).hinges.set('t1_p0', { kind: 'node', node: 4 });
  world.cluster.at(3).holders.set('t1_p0', [session]);
  await world.begin('change-leader', { ...REF, from: 1, to: 3 });
  await waitsFor(world, 'transaction');
  expect(waits(world)).toMatchObject({ node: 3, pid: 4711, user: 'anna' });
  expect(world.root.pauses).toEqual([]);
  world.cluster.at(3).holders.clear();
  expect((await world.finish()).status).toBe('done');
});

test.each([4, 16])('%d moves that are cancelled at once are planned again after a second', async (moves) => {
  const placement = Array.from({ length: 32 }, () => [1, 2]);
  const world = await World.settled([1, 2, 3, 4, 5, 6], [tableRecord(1, 'acct', 2, placement)]);
  for (const [key, value] of [
    ['move.concurrency', moves],
    ['move.concurrency_per_node', 64],
  ] as const)
    await world.catalog.commit([{ kind: 'setting-changed', key, value }]);
  await world.begin('rebalance', { goal: 'balance', why: 'a test' });
  const children = () => world.runner.all().filter((r) => r.parent === world.root.id);
  await world.until(() => children().filter((r) => r.status === 'running').length >= moves);
  const before = children();
  for (const { id } of before) await world.runner.cancel(id).catch(() => {});
  await world.until(() => before.every(({ id }) => world.runner.get(id)?.endedMs !== null));
  const endedMs = world.clock.nowMs();
  await world.until(() => children().length > before.length);
  expect(world.clock.nowMs() - endedMs).toBeLessThan(2_000);
});
