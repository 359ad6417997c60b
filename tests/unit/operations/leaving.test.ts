import { describe, expect, test } from 'vitest';
import { partitionOf, replicaOn } from '../../../src/catalog/view.ts';
import { must } from '../../../src/core/assert.ts';
import { faultsOf } from '../../fakes/cleanliness.ts';
import { NOTES, tableRecord } from '../../fakes/records.ts';
import { type Fault, World } from '../../fakes/world.ts';

/** A node that leaves while other operations clear their place on it, and is stopped as soon as it may be. */

const REF = { tid: 1, pid: 0 };
const PATIENCE_MS = 600_000;
const threeReplicas = () => World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, [[1, 2, 3]])]);

/** What happens in the moment when the operation has written down that it takes its place on node 4. */
function whenPlaceIsTaken(world: World, then: () => Promise<unknown>): void {
  const { store } = world;
  const txn = store.txn.bind(store);
  store.txn = async (request) => {
    const answer = await txn(request);
    if (!request.write.some((w) => 'put' in w && (w.value as { claims?: unknown[] } | null)?.claims?.length))
      return answer;
    store.txn = txn;
    await then();
    return answer;
  };
}

test('a node does not leave while an operation that is undone has yet to look whether it has left something there', async () => {
  const world = await threeReplicas();
  await world.begin('add-replica', { ...REF, to: 4 });
  world.catalog.onChange((view) => {
    const partition = must(partitionOf(view, 1, 0), 'partition');
    if (world.root.status === 'undoing' && !replicaOn(partition, 4)) world.cluster.at(4).alive = false;
  });
  await world.runner.cancel(world.root.id);
  await world.until(() => world.cluster.at(4).alive === false);
  const leaving = await world.runner.submit('decommission', { nodes: [4], placement: {} }, null, { bytesPlanned: 0 });
  await world.until(() => world.runner.live(leaving.id)?.waitsFor?.kind === 'lock');
  expect(world.runner.live(leaving.id)?.waitsFor?.text).toBe(
    'operation 1 (add-replica acct 0: → n4) has yet to clear its place on a node that leaves',
  );
  world.cluster.at(4).alive = true;
  expect((await world.finish()).status).toBe('cancelled');
  await world.until(() => world.runner.get(leaving.id)?.status === 'done');
  expect(faultsOf(world)).toEqual([]);
});

test('nobody’s way to a node that leaves is taken away while a hinge leads through it', async () => {
  const world = await threeReplicas();
  const { hinges, foreignServers, holders } = world.cluster.at(3);
  hinges.set('t1_p0', { kind: 'node', node: 4 });
  const open = { user: 'anna', query: null, state: 'idle in transaction', application: 'psql' };
  holders.set('t1_p0', [{ ...open, processId: 4711, ageMs: 60_000 }]);
  await world.begin('decommission', { nodes: [4], placement: {} });
  await world.until(() => world.runner.live(world.root.id)?.waitsFor?.kind === 'transaction');
  expect(world.runner.live(world.root.id)?.waitsFor?.text).toContain('a hinge that leads to node 4 is in use');
  expect(foreignServers).toContain('tide_n4');
  holders.clear();
  expect((await world.finish()).status).toBe('done');
  expect(foreignServers).not.toContain('tide_n4');
  const [point, drop] = ['n3: point t1_p0 to n1', 'n3: drop server n4'].map((e) => world.changes().indexOf(e));
  expect(point).toBeGreaterThan(-1);
  expect(drop).toBeGreaterThan(point ?? 0);
  expect(faultsOf(world)).toEqual([]);
});

test('a copy to a node that has left meanwhile is given up, and asks nothing of it', async () => {
  const world = await threeReplicas();
  whenPlaceIsTaken(world, async () => {
    await world.catalog.commit([{ kind: 'node-changed', id: 4, change: { state: 'decommissioned' } }]);
    world.cluster.at(4).alive = false;
  });
  const record = await world.run('add-replica', { ...REF, to: 4 });
  expect(record).toMatchObject({ status: 'failed', error: { code: 'NODE_NOT_ELIGIBLE' } });
});

/**
 * Plays an operation with one disturbed effect beside the decommission of node 3, which is stopped when it
 * has left: what still waits in the end.
 */
async function left({ tables, kind, input, prepare, cancelAt }: Case, fault: Fault): Promise<string | null> {
  const world = await World.settled([1, 2, 3], tables);
  await prepare?.(world);
  await world.begin(kind, input, fault);
  await world.runner.submit('decommission', { nodes: [3], placement: {} }, null, { bytesPlanned: 0 });
  const limitMs = world.clock.nowMs() + PATIENCE_MS;
  const step = () => world.runner.kindOf(world.root).steps[world.root.step]?.name;
  let isCancelled = cancelAt === undefined;
  await world.until(() => {
    if (world.view.nodes.get(3)?.state === 'decommissioned') world.cluster.at(3).alive = false;
    if (!isCancelled && world.root.status === 'running' && step() === cancelAt) {
      isCancelled = true;
      void world.runner.cancel(world.root.id);
    }
    return world.runner.unended().length === 0 || world.clock.nowMs() > limitMs;
  });
  return world.runner.unended().length === 0 ? null : `at ${fault.at}: ${world.waits()}`;
}

interface Case {
  tables: ReturnType<typeof tableRecord>[];
  kind: string;
  input: object;
  prepare?: (world: World) => Promise<void>;
  cancelAt?: string;
}

const missed = async (world: World) => {
  await world.catalog.commit([{ kind: 'replica-changed', ...REF, node: 3, state: 'stale' }]);
  await world.settleQuorums();
};
const onAll = (replicas: number) => [tableRecord(1, 'acct', replicas, [[1, 2, 3]])];
const CASES: [string, Case][] = [
  ['drop-table', { tables: onAll(3), kind: 'drop-table', input: { tid: 1, name: 'acct', partitions: 1 } }],
  ['remove-replica', { tables: onAll(2), kind: 'remove-replica', input: { ...REF, from: 3 } }],
  [
    'move-replica',
    { tables: [tableRecord(1, 'acct', 2, [[1, 3]])], kind: 'move-replica', input: { ...REF, from: 3, to: 2 } },
  ],
  [
    'resync-replica, cancelled',
    { tables: onAll(2), kind: 'resync-replica', input: { ...REF, to: 3 }, prepare: missed, cancelAt: 'copy-rows' },
  ],
];

describe.each(CASES)('%s beside a decommission', (_name, play) => {
  test.each(['fails', 'answer-lost'] as const)('ends though an effect %s, at each of them', async (mode) => {
    const rehearsal = await World.settled([1, 2, 3], play.tables);
    await play.prepare?.(rehearsal);
    await rehearsal.run(play.kind, play.input);
    const stuck: string[] = [];
    for (let at = 1; at <= rehearsal.changes().length + 10; at++) {
      const waits = await left(play, { at, mode });
      if (waits) stuck.push(waits);
    }
    expect(stuck).toEqual([]);
  });
});

describe('a table that was filled after the preflight', () => {
  const leavesWith = async () => {
    const world = await threeReplicas();
    await world.begin('decommission', { nodes: [3], placement: { '1/0': { leader: 1, nodes: [1, 2, 3] } } });
    world.cluster.at(3).localData = [NOTES];
    await world.until(() => world.runner.live(world.root.id)?.waitsFor?.kind === 'local-tables');
    return world;
  };

  test('holds its node back, which says so, until it is gone', async () => {
    const world = await leavesWith();
    expect(world.runner.live(world.root.id)?.waitsFor).toMatchObject({
      node: 3,
      text: 'node 3 holds what no other node has: notes (3 rows, 16.0 KiB); copy it elsewhere and drop it there, or give it up: tide node decommission 3 --abandon-local-tables',
    });
    expect(world.view.nodes.get(3)?.state).toBe('decommissioning');
    world.cluster.at(3).localData = [];
    expect((await world.finish()).status).toBe('done');
    expect(faultsOf(world)).toEqual([]);
  });

  test('leaves with it when somebody has said so', async () => {
    const world = await leavesWith();
    await world.catalog.commit([{ kind: 'node-changed', id: 3, change: { mayTakeLocalTables: true } }]);
    expect((await world.finish()).status).toBe('done');
    expect(world.view.nodes.get(3)?.state).toBe('decommissioned');
  });

  test('does not keep it from becoming a member again, whose next leaving is asked about anew', async () => {
    const world = await leavesWith();
    await world.runner.cancel(world.root.id);
    expect((await world.finish()).status).toBe('cancelled');
    expect(world.view.nodes.get(3)).toMatchObject({ state: 'active' });
    expect(world.view.nodes.get(3)).not.toHaveProperty('mayTakeLocalTables');
    expect(faultsOf(world)).toEqual([]);
  });

  test("is nobody's to lose while its node cannot be asked", async () => {
    const world = await leavesWith();
    world.cluster.at(3).alive = false;
    await world.until(() => world.runner.live(world.root.id)?.waitsFor?.kind === 'node');
    expect(world.view.nodes.get(3)?.state).toBe('decommissioning');
    world.cluster.at(3).localData = [];
    world.cluster.at(3).alive = true;
    expect((await world.finish()).status).toBe('done');
  });

  test('does not keep a node that is out, perhaps for ever: it leaves, and the event says that nobody has looked', async () => {
    const world = await leavesWith();
    world.cluster.at(3).alive = false;
    await world.until(() => world.runner.live(world.root.id)?.waitsFor?.kind === 'node');
    await world.catalog.commit([{ kind: 'node-changed', id: 3, change: { outage: { by: 'manager', sinceMs: 0 } } }]);
    expect((await world.finish()).status).toBe('done');
    expect(world.view.nodes.get(3)?.state).toBe('decommissioned');
    expect(world.effects).toContainEqual(expect.stringContaining('nobody could look for ordinary tables'));
  });
});
