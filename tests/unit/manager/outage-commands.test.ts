import { beforeEach, expect, test } from 'vitest';
import type { AdminCommand } from '../../../src/api/commands.ts';
import type { CatalogChange } from '../../../src/catalog/change.ts';
import type { NodeId, ReplicaState, TableState } from '../../../src/catalog/model.ts';
import type { LocalData } from '../../../src/core/local-data.ts';
import { CatalogStore } from '../../../src/manager/catalog-store.ts';
import { ClusterLoad } from '../../../src/manager/cluster-load.ts';
import type { CommandContext } from '../../../src/manager/commands/context.ts';
import { drop, offline, recover, recoverPartition } from '../../../src/manager/commands/outages.ts';
import type { Measurements } from '../../../src/manager/measurements.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';
import { NOTES, nodeRecord, tableRecord } from '../../fakes/records.ts';
import { HEALTHY } from './support/beats.ts';

/** Node 2 is out, by the operator's word; the others are well. */
const GONE = 2;
const OUTAGE = { by: 'operator', sinceMs: 1_000 } as const;

let clock: ManualClock;
let catalog: CatalogStore;
let load: ClusterLoad;
/** What node 2 alone holds. */
let local: LocalData[];
let submitted: { kind: string; input: object }[];
/** Which kind of operation holds a lock. */
let held: Map<string, string>;

beforeEach(async () => {
  const store = new MemoryStore();
  await CatalogStore.initialise(store, { clusterId: 'test', startMode: 'start' });
  catalog = await CatalogStore.open(store);
  clock = new ManualClock();
  local = [];
  load = new ClusterLoad(clock, {} as Measurements, (n) => catalog.view.nodes.get(n)?.outage !== undefined);
  submitted = [];
  held = new Map();
  await catalog.commit([1, GONE, 3, 4].map((id) => ({ kind: 'node-added', node: nodeRecord(id) })));
  await change(GONE, { outage: OUTAGE });
  for (const id of [1, 3, 4]) load.beat({ ...HEALTHY, node: id });
});

function context(): CommandContext {
  const runner = {
    holderOf: (lock: string) => (held.has(lock) ? { id: 7, kind: held.get(lock) } : undefined),
    submit: async (kind: string, input: object) => {
      submitted.push({ kind, input });
      return { id: 8 };
    },
  };
  const inspector = { localData: async () => local };
  return { catalog, load, runner, inspector, clock, view: catalog.view } as unknown as CommandContext;
}

const change = (id: NodeId, to: Extract<CatalogChange, { kind: 'node-changed' }>['change']) =>
  catalog.commit([{ kind: 'node-changed', id, change: to }]);

const place = (placement: readonly NodeId[][], state: TableState = 'ready') =>
  catalog.commit([{ kind: 'table-added', table: { ...tableRecord(1, 'acct', 2, placement), state } }]);

const replica = (pid: number, node: NodeId, state: ReplicaState) =>
  catalog.commit([{ kind: 'replica-added', tid: 1, pid, node, state }]);

/** Its process says that its PostgreSQL does not run. */
const stop = (node: NodeId) => load.beat({ ...HEALTHY, node, postgresUp: false, fenced: true });

type Drop = Extract<AdminCommand, { do: 'node-drop' }>;

const dropNode = (more: Partial<Drop> = {}) =>
  drop(context(), { do: 'node-drop', node: GONE, acceptDataLoss: [], abandonLocalTables: false, sure: true, ...more });

const dropped = (...acceptDataLoss: string[]) => dropNode({ acceptDataLoss });

type Recover = Extract<AdminCommand, { do: 'partition-recover' }>;

const recovered = (node: NodeId, more: Partial<Recover> = {}) =>
  recoverPartition(context(), { do: 'partition-recover', table: 'acct', pid: 0, node, acceptDataLoss: false, ...more });

function pass(ms: number): void {
  void clock.sleep(ms);
  clock.advance();
}

/** It is refused with these words, and nothing has been begun. */
async function refused(asked: Promise<unknown>, code: string, details: object = {}): Promise<void> {
  await expect(asked).rejects.toMatchObject({ code, details });
  expect(submitted).toEqual([]);
}

// tide node drop

test('a node is dropped with the last copy of something only where all of it is named', async () => {
  await place([[2], [2, 1], [2], [1, 2]]);
  await catalog.commit([{ kind: 'leader-changed', tid: 1, pid: 1, leader: 1 }]);
  await refused(dropped(), 'LAST_COPY', { node: 2, partitions: ['acct 0', 'acct 2'], accept: 'acct/0,acct/2' });
  await refused(dropped('acct/0'), 'LAST_COPY', { node: 2, partitions: ['acct 2'], accept: 'acct/2' });
  await refused(dropped('acct/0', 'acct/1'), 'LAST_COPY', { node: 2, partitions: ['acct 2'], accept: 'acct/2' });
  expect(await dropped('acct/0', 'acct/2')).toEqual({ operation: 8, plan: null, localData: [], notLookedAt: [2] });
  expect(submitted).toEqual([{ kind: 'drop-node', input: { node: 2, lost: ['1/0', '1/2'] } }]);
});

test('what is named and has a copy elsewhere is not given up', async () => {
  await place([[1, 2], [2]]);
  await dropped('acct/0', 'acct/1');
  expect(submitted).toEqual([{ kind: 'drop-node', input: { node: 2, lost: ['1/1'] } }]);
});

test('nor is what it never held, whoever else is away', async () => {
  await place([[3], [1, 2]]);
  stop(3);
  await dropped();
  expect(submitted).toEqual([{ kind: 'drop-node', input: { node: 2, lost: [] } }]);
});

test('a copy that is stale, still being made, being removed or not alive is none', async () => {
  await place([
    [2, 1],
    [2, 1],
    [2, 1],
    [2, 3],
  ]);
  await replica(0, 1, 'stale');
  await replica(1, 1, 'joining');
  await replica(2, 1, 'leaving');
  stop(3);
  await refused(dropped('acct/1'), 'LAST_COPY', { partitions: ['acct 0', 'acct 2', 'acct 3'] });
});

test('so is one whose leader is out as well: the node may follow, and have all that is left', async () => {
  await place([[1, 2]]);
  await change(1, { outage: OUTAGE });
  await refused(dropped(), 'LAST_COPY', { partitions: ['acct 0'] });
});

test('what the node leads, and others have, may lack writes: naming it does not do', async () => {
  await place([
    [2, 1],
    [1, 2],
    [2, 3, 4],
  ]);
  await refused(dropped('acct/0', 'acct/2'), 'WRITES_AT_RISK', { partitions: ['acct 0', 'acct 2'], leader: 2 });
});

test('names of what there is not are no consent', async () => {
  await place([[2]]);
  await refused(dropped('acct/0', 'acct/7'), 'PARTITION_UNKNOWN', { table: 'acct', pid: 7, count: 1 });
  await refused(dropped('acct/0', 'loan/0'), 'TABLE_UNKNOWN', { table: 'loan' });
});

test('a node that serves, or that nobody has said to be out, is not dropped', async () => {
  await refused(dropNode({ node: 1 }), 'NODE_LIVE', {
    node: 1,
    what: 'dropped',
  });
  await change(GONE, { outage: undefined });
  await refused(dropped(), 'NODE_NOT_OFFLINE', { node: 2, what: 'dropped' });
});

test('nor one that is dropped already, or that something else is at', async () => {
  held.set('outage:2', 'recover-node');
  await refused(dropped(), 'BUSY', { what: 'node 2', operation: 7 });
  held = new Map([['node:2', 'decommission']]);
  await refused(dropped(), 'BUSY', { what: 'node 2', operation: 7 });
  held.clear();
  await change(GONE, { state: 'decommissioned' });
  await refused(dropped(), 'NODE_DECOMMISSIONED', { node: 2 });
});

test('a node that was heard a moment ago is dropped by somebody who is sure of it only', async () => {
  await catalog.commit([{ kind: 'setting-changed', key: 'node.dead_after', value: 60 }]);
  await change(GONE, { outage: { by: 'operator', sinceMs: clock.nowMs() - 20_000 } });
  await refused(dropNode({ sure: false }), 'NODE_JUST_SEEN', { node: 2, seconds: 20 });
  stop(GONE);
  await refused(dropNode({ sure: false }), 'NODE_JUST_SEEN', { node: 2, seconds: 0 });
  pass(59_000);
  await refused(dropNode({ sure: false }), 'NODE_JUST_SEEN', { node: 2, seconds: 59 });
  pass(1_000);
  expect(await dropNode({ sure: false })).toMatchObject({ operation: 8 });
});

test('a node whose PostgreSQL still answers is asked what it alone holds; one that is away cannot be', async () => {
  local = [NOTES];
  load.beat({ ...HEALTHY, node: GONE });
  await refused(dropNode(), 'LOCAL_TABLES', { node: 2, count: 1, rows: 3, bytes: 16_384, found: [NOTES] });
  expect(await dropNode({ abandonLocalTables: true })).toEqual({
    operation: 8,
    plan: null,
    localData: [{ node: 2, ...NOTES }],
    notLookedAt: [],
  });
  stop(GONE);
  expect(await dropNode()).toMatchObject({ localData: [], notLookedAt: [2] });
});

// tide partition recover

test('a follower that may lack writes leads only where that is accepted', async () => {
  await place([[2, 1, 3]]);
  await catalog.commit([{ kind: 'node-changed', id: 2, change: { quorums: [{ count: 1, nodes: [1, 3] }] } }]);
  const way = 'tide partition recover acct 0 3 --accept-data-loss';
  await refused(recovered(3), 'WRITES_AT_RISK', { partitions: ['acct 0'], leader: 2, way });
  await recovered(3, { acceptDataLoss: true });
  const input = { node: 2, by: 'operator', recover: { tid: 1, pid: 0, to: 3 } };
  expect(submitted).toEqual([{ kind: 'failover', input }]);
});

test('one that has all leads without a word, unless it is stale', async () => {
  await place([[2, 3]]);
  await catalog.commit([{ kind: 'node-changed', id: 2, change: { quorums: [{ count: 1, nodes: [3] }] } }]);
  await replica(0, 3, 'stale');
  await refused(recovered(3), 'WRITES_AT_RISK');
  await replica(0, 3, 'ready');
  expect(await recovered(3)).toEqual({ operation: 8, plan: null });
  expect(submitted).toHaveLength(1);
});

test('who said that the leader is out is kept', async () => {
  await place([[2, 3]]);
  await change(GONE, { outage: { ...OUTAGE, by: 'manager' } });
  await recovered(3, { acceptDataLoss: true });
  expect(submitted).toMatchObject([{ kind: 'failover', input: { by: 'manager' } }]);
});

const ACCEPTED = { acceptDataLoss: true };

test('a leader that is in service is not replaced, whatever is accepted', async () => {
  await place([[1, 3]]);
  await refused(recovered(3, ACCEPTED), 'PARTITION_LED', { partition: 'acct 0', leader: 1 });
  // That it is down has to be found, or said, first.
  stop(1);
  await refused(recovered(3, ACCEPTED), 'PARTITION_LED', { partition: 'acct 0', leader: 1 });
});

test('nobody leads who is not there, or has no whole replica, whatever is accepted', async () => {
  await place([[2, 3]]);
  await refused(recovered(1, ACCEPTED), 'NOT_A_FOLLOWER', { partition: 'acct 0', node: 1 });
  for (const state of ['joining', 'leaving'] as const) {
    await replica(0, 3, state);
    await refused(recovered(3, ACCEPTED), 'NOT_A_FOLLOWER', { partition: 'acct 0', node: 3 });
  }
  await replica(0, 3, 'ready');
  stop(3);
  await refused(recovered(3, ACCEPTED), 'NODE_NOT_ALIVE', { nodes: 'node 3 is' });
  await refused(recovered(GONE, ACCEPTED), 'NODE_NOT_ALIVE', { nodes: 'node 2 is' });
});

test('a leader that something is being done about has to be waited for', async () => {
  await place([[2, 3]]);
  held.set('outage:2', 'recover-node');
  await refused(recovered(3, ACCEPTED), 'BUSY', { what: 'node 2', operation: 7 });
});

test('only partitions of tables in use have a leader to choose', async () => {
  await place([[2, 3]], 'creating');
  await refused(recovered(3, ACCEPTED), 'TABLE_NOT_READY', { table: 'acct', state: 'creating' });
  await refused(recovered(3, { ...ACCEPTED, table: 'loan' }), 'TABLE_UNKNOWN', { table: 'loan' });
  await catalog.commit([{ kind: 'table-state', tid: 1, state: 'ready' }]);
  await refused(recovered(3, { ...ACCEPTED, pid: 1 }), 'PARTITION_UNKNOWN', { table: 'acct', pid: 1, count: 1 });
});

// tide node offline, tide node recover

test('a node is set offline by the operator when it is not there any more', async () => {
  await refused(offline(context(), 3), 'NODE_LIVE', { node: 3, what: 'set offline' });
  stop(3);
  expect(await offline(context(), 3)).toEqual({ operation: 8, plan: null });
  expect(submitted).toEqual([{ kind: 'failover', input: { node: 3, by: 'operator' } }]);
});

test('not while it is failed over, but while it is taken back: it may have gone again', async () => {
  held.set('outage:2', 'failover');
  await refused(offline(context(), GONE), 'BUSY', { what: 'node 2', operation: 7 });
  held.set('outage:2', 'recover-node');
  await offline(context(), GONE);
  expect(submitted).toMatchObject([{ kind: 'failover', input: { node: 2, by: 'operator' } }]);
});

test('a node that has left for good is neither set offline nor known by another number', async () => {
  await change(GONE, { state: 'decommissioned' });
  await refused(offline(context(), GONE), 'NODE_DECOMMISSIONED', { node: 2 });
  await refused(offline(context(), 9), 'NODE_UNKNOWN', { node: '9' });
});

const outageOf = (node: NodeId) => catalog.view.nodes.get(node)?.outage;

test('a node that is offline is taken back when it is there behind its fence, and until then expected', async () => {
  expect(await recover(context(), GONE)).toEqual({ operation: null, plan: null });
  expect(outageOf(GONE)).toEqual({ by: 'manager', sinceMs: 1_000 });
  stop(GONE);
  expect(await recover(context(), GONE)).toEqual({ operation: null, plan: null });
  // Unfenced, it may still serve what others lead by now.
  load.beat({ ...HEALTHY, node: GONE });
  expect(await recover(context(), GONE)).toEqual({ operation: null, plan: null });
  expect(submitted).toEqual([]);
  load.beat({ ...HEALTHY, node: GONE, fenced: true });
  expect(await recover(context(), GONE)).toEqual({ operation: 8, plan: null });
  expect(submitted).toEqual([{ kind: 'recover-node', input: { node: 2 } }]);
});

test('one that is not offline, or that something is being done about, is not taken back', async () => {
  await refused(recover(context(), 1), 'NODE_NOT_OFFLINE', { node: 1, what: 'recovered' });
  held.set('outage:2', 'failover');
  await refused(recover(context(), GONE), 'BUSY', { what: 'node 2', operation: 7 });
  expect(outageOf(GONE)).toEqual(OUTAGE);
});
