import { expect, test, vi } from 'vitest';
import { partitionOf } from '../../../src/catalog/view.ts';
import { must } from '../../../src/core/assert.ts';
import type { FailoverData } from '../../../src/operations/kinds/failover.ts';
import { faultsOf } from '../../fakes/cleanliness.ts';
import { FakeHinges } from '../../fakes/fake-hinges.ts';
import { FakeStreams } from '../../fakes/fake-streams.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';
import { SCENARIOS, type Scenario } from './support/scenarios.ts';

/**
 * A node dies at every single change of every kind of operation on partitions and tables: others lead in its
 * place, what cannot go on is undone, the node returns and is taken back. Nothing is lost, nothing waits for
 * ever, nothing is left over.
 */
const KINDS = [
  'add-replica',
  'remove-replica',
  'change-leader',
  'move-replica',
  'resync-replica',
  'create-table',
  'drop-table',
];
const NODES = [1, 2, 3, 4];
const REF = { tid: 1, pid: 0 };

for (const scenario of SCENARIOS.filter((s) => KINDS.includes(s.kind))) {
  test.each(NODES)(`${scenario.name}: node %i dies at every change`, async (node) => {
    const rehearsal = await scenario.world();
    await rehearsal.run(scenario.kind, scenario.input);
    const bad: string[] = [];
    for (let at = 1; at <= rehearsal.changes().length; at++) bad.push(...(await dies(scenario, node, at)));
    expect(bad).toEqual([]);
  });
}

async function dies(scenario: Scenario, node: number, at: number): Promise<string[]> {
  const world = await scenario.world();
  world.hingesFollow = true;
  const where = () => `n${node} dies at ${at} (${world.changes()[at - 1]})`;
  try {
    await world.begin(scenario.kind, scenario.input, { at, mode: 'node-dies', node });
    await world.until(() => !world.cluster.at(node).alive);
    const failover = await world.runner.submit('failover', { node, by: 'manager' });
    await world.until(() => world.runner.get(failover.id)?.endedMs !== null);
    world.comeBack(node);
    await world.runner.submit('recover-node', { node });
    await world.finish();
    return faultsOf(world).map((f) => `${where()}, ${world.root.status}: ${f}`);
  } catch (error) {
    return [`${where()}: ${error instanceof Error ? error.message : error}`];
  }
}

test('a table whose holder is dropped while it is made is not made, and nothing of it stays', async () => {
  const scenario = must(
    SCENARIOS.find((s) => s.kind === 'create-table'),
    'scenario',
  );
  const world = await scenario.world();
  world.hingesFollow = true;
  await world.begin(scenario.kind, scenario.input, { at: 4, mode: 'node-dies', node: 3 });
  await world.until(() => !world.cluster.at(3).alive);
  await world.runner.submit('failover', { node: 3, by: 'manager' });
  await world.until(() => world.runner.unended().every((r) => r.kind !== 'failover'));
  await world.runner.submit('drop-node', { node: 3, lost: [] });
  expect((await world.finish()).status).toBe('cancelled');
  expect(faultsOf(world)).toEqual([]);
});

test('a target that has missed rows while its swing was prepared does not lead', async () => {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  const ref = { tid: 1, pid: 0 };
  await world.begin('change-leader', { ...ref, from: 1, to: 2 });
  // As the return of a source that was out makes it, while others wait for the target to catch up.
  const flow = world.cluster.flow.bind(world.cluster);
  let missed: Promise<void> | null = null;
  world.cluster.flow = () => {
    flow();
    if (missed === null && world.rootData.tried === undefined && world.root.began === 'swing')
      missed = world.catalog.commit([{ kind: 'replica-changed', ...ref, node: 2, state: 'stale' }]);
  };
  expect((await world.finish()).status).toBe('cancelled');
  expect(missed).not.toBeNull();
  expect(partitionOf(world.view, 1, 0)?.leader).toBe(1);
  expect(world.cluster.at(1).hinges.get('t1_p0')).toEqual({ kind: 'local' });
});

test('a follower that goes in the moment when leaders are chosen keeps nobody from leading', async () => {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  world.crash(1);
  const txn = world.store.txn.bind(world.store);
  world.store.txn = async (request) => {
    const isChoice = request.write.some(
      (w) => 'put' in w && (w.value as { data?: FailoverData } | null)?.data?.choices !== undefined,
    );
    if (isChoice && world.cluster.at(3).alive) world.crash(3);
    return txn(request);
  };
  await world.begin('failover', { node: 1, by: 'manager' });
  expect((await world.finish()).status).toBe('done');
  expect(world.cluster.at(3).alive).toBe(false);
  expect(partitionOf(world.view, 1, 0)).toMatchObject({
    leader: 2,
    replicas: [{}, { state: 'ready' }, { state: 'ready' }],
  });
});

test('a dead leader is replaced while the target of a copy does not answer', async () => {
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  world.hingesFollow = true;
  await world.begin('add-replica', { tid: 1, pid: 0, to: 4 });
  await world.until(() => world.runner.live(world.root.id)?.waitsFor?.kind === 'copy');
  // Silent, and not known to be down: nobody sets it aside.
  world.crash(4);
  world.crash(1);
  const failover = await world.runner.submit('failover', { node: 1, by: 'manager' });
  await world.until(() => world.runner.get(failover.id)?.endedMs !== null);
  expect(partitionOf(world.view, 1, 0)?.leader).toBe(2);
  expect(world.root).toMatchObject({ status: 'undoing' });
  world.comeBack(4);
  expect((await world.finish()).status).toBe('cancelled');
  expect(faultsOf(world).filter((fault) => !fault.includes('node 1'))).toEqual([]);
});

test('a dropped follower of a leader that is out leaves that leader what it has, and nobody leads beside it', async () => {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 2, [[1, 2]])]);
  world.hingesFollow = true;
  world.crash(1);
  world.crash(2);
  for (const node of [1, 2]) await world.run('failover', { node, by: 'operator' });
  expect((await world.run('drop-node', { node: 2, lost: ['1/0'] })).status).toBe('done');
  expect(partitionOf(world.view, 1, 0)).toMatchObject({ leader: 1, replicas: [{ node: 1 }] });
  expect(world.cluster.at(3).replicas.size).toBe(0);
  world.comeBack(1);
  await world.catalog.commit([{ kind: 'node-changed', id: 1, change: { outage: { by: 'manager', sinceMs: 0 } } }]);
  await world.run('recover-node', { node: 1 });
  expect(faultsOf(world)).toEqual([]);
});

test('a chosen leader that dies for good before it leads holds up nobody else, and is replaced', async () => {
  const stuck: string[] = [];
  const died = new Set<string>();
  for (let at = 1; at < 60; at++) {
    const placement = [
      [1, 2, 3],
      [1, 3, 4],
      [1, 2, 4],
    ];
    const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 3, placement)]);
    world.arrive();
    world.crash(1);
    await world.begin('failover', { node: 1, by: 'manager' }, { at, mode: 'node-dies', node: 2 });
    await world.until(() => !world.cluster.at(2).alive || world.allEnded());
    if (world.cluster.at(2).alive) break;
    died.add(world.changes()[at - 1] ?? '');
    // As the outage watch does: of whoever is down and leads something that others could.
    for (const node of [2, 1]) {
      await world.runner.submit('failover', { node, by: 'manager' });
      const limitMs = world.clock.nowMs() + 600_000;
      await world.until(() => world.runner.unended().length === 0 || world.clock.nowMs() > limitMs);
    }
    // With two of its three holders gone nobody can prove that it has everything, but for the one that node 2
    // does not hold.
    const leader = must(partitionOf(world.view, 1, 1), 'partition').leader;
    if (world.runner.unended().length > 0 || leader < 3) stuck.push(`at ${at}: led by ${leader}; ${world.waits()}`);
  }
  expect(died.size).toBeGreaterThan(5);
  expect(stuck).toEqual([]);
});

test('a partition that is lost begins anew elsewhere where its new node dies before it is entered', async () => {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 1, [[1]])]);
  world.crash(1);
  await world.run('failover', { node: 1, by: 'manager' });
  await world.begin('drop-node', { node: 1, lost: ['1/0'] }, { at: 1, mode: 'node-dies', node: 2 });
  await world.until(() => !world.cluster.at(2).alive);
  await world.runner.submit('failover', { node: 2, by: 'manager' });
  await world.finish();
  expect(world.root.status).toBe('done');
  expect(partitionOf(world.view, 1, 0)?.leader).toBe(3);
});

test('a chosen leader that falls silent, and may live, keeps nobody else from leading', async () => {
  const placement = [
    [1, 2, 3],
    [1, 3, 4],
  ];
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 3, placement)]);
  world.arrive();
  world.crash(1);
  const { store } = world;
  const txn = store.txn.bind(store);
  let silent = 0;
  store.txn = async (request) => {
    const answer = await txn(request);
    const records = request.write.flatMap((w) =>
      'put' in w && w.put.startsWith('/op/') ? [w.value as { data: FailoverData }] : [],
    );
    const [choice] = records.flatMap((r) => r.data.choices ?? []);
    if (!choice || silent !== 0) return answer;
    silent = choice.leader;
    world.crash(silent);
    return answer;
  };
  expect((await world.run('failover', { node: 1, by: 'manager' })).status).toBe('done');
  const led = must(world.view.tables.get(1), 'table').partitions.filter((p) => p.leader !== 1 && p.leader !== silent);
  expect(led.length).toBeGreaterThan(0);
  for (const { pid, leader } of led) {
    const server = world.cluster.at(leader);
    expect(server.hinges.get(`t1_p${pid}`)).toEqual({ kind: 'local' });
    expect(server.replicas.get(`t1_p${pid}`)?.guarded).toBe(false);
  }
});

test('whoever a failover has stopped feeding does not count, though the leader it chose never came to lead', async () => {
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 4, [[1, 2, 3, 4]])]);
  world.hingesFollow = true;
  world.arrive();
  // A change to node 2 has swung, which only node 1 knows, and node 1 dies.
  const swing = FakeHinges.prototype.swing;
  const swinging = vi.spyOn(FakeHinges.prototype, 'swing');
  swinging.mockImplementation(async function (this: FakeHinges, ...args) {
    const attempt = await swing.apply(this, args);
    if (attempt.outcome !== 'done') return attempt;
    world.crash(1);
    throw new Error('Connection terminated unexpectedly');
  });
  await world.begin('change-leader', { ...REF, from: 1, to: 2 });
  await world.until(() => !world.cluster.at(1).alive);
  swinging.mockRestore();
  // Node 3 has most of what node 1 wrote, is chosen, and falls silent while the others are left behind.
  must(world.cluster.at(3).subscriptions.get(1), 'stream').applied += 1;
  const stop = FakeStreams.prototype.stopSending;
  const stopping = vi.spyOn(FakeStreams.prototype, 'stopSending');
  stopping.mockImplementation(async function (this: FakeStreams, from, to, ref) {
    if (from === 3) world.crash(3);
    return stop.call(this, from, to, ref);
  });
  const failover = await world.runner.submit('failover', { node: 1, by: 'manager' });
  await world.until(() => world.runner.get(failover.id)?.endedMs !== null);
  stopping.mockRestore();
  expect(world.cluster.at(3).alive).toBe(false);
  expect(await world.plane().streams.published(2, 4)).toEqual([]);
  const stateOn4 = () => partitionOf(world.view, 1, 0)?.replicas.find((r) => r.node === 4)?.state;
  expect(stateOn4()).toBe('stale');
  world.comeBack(1);
  await world.runner.submit('recover-node', { node: 1 });
  await world.until(() => partitionOf(world.view, 1, 0)?.leader === 2);
  expect(stateOn4()).toBe('stale');
});
