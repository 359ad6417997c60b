import fc from 'fast-check';
import { expect, test } from 'vitest';
import { applyChange, type CatalogChange } from '../../../src/catalog/change.ts';
import type { ClusterView, NodeId, Quorum, ReplicaState } from '../../../src/catalog/model.ts';
import {
  durabilityOf,
  haveAllBetween,
  lostOn,
  NO_QUORUM,
  protects,
  type QuorumDemand,
  syncTransitions,
  wantedQuorum,
} from '../../../src/catalog/quorum.ts';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { nodeRecord, tableRecord } from '../../fakes/records.ts';

const everybody = () => true;
const except =
  (...dead: NodeId[]) =>
  (node: NodeId) =>
    !dead.includes(node);

/** Partitions by their replicas' nodes, the leader's first. */
function viewOf(placement: NodeId[][], settings: Partial<ClusterView['settings']> = {}): ClusterView {
  const nodes = [...new Set(placement.flat())].map((id) => [id, nodeRecord(id)] as const);
  return {
    revision: 0,
    clusterId: 'test',
    startMode: 'start',
    nodes: new Map(nodes),
    tables: new Map([[1, { ...tableRecord(1, 'acct', 3, placement), state: 'ready' }]]),
    settings: defaultSettings(settings),
  };
}

function withState(view: ClusterView, pid: number, node: NodeId, state: ReplicaState): ClusterView {
  const table = view.tables.get(1);
  const partition = table?.partitions[pid];
  if (!table || !partition) throw new Error('no such partition');
  const replicas = partition.replicas.map((r) => (r.node === node ? { node, state } : r));
  const partitions = table.partitions.with(pid, { ...partition, replicas });
  return { ...view, tables: new Map([[1, { ...table, partitions }]]) };
}

test('three replicas on three nodes: either follower', () => {
  expect(wantedQuorum(viewOf([[1, 2, 3]]), 1, everybody)).toEqual({ count: 1, nodes: [2, 3] });
});

test('four nodes follow, two of them each partition: any three of four', () => {
  const view = viewOf([
    [1, 2, 3],
    [1, 4, 5],
    [2, 1, 3],
  ]);
  expect(wantedQuorum(view, 1, everybody)).toEqual({ count: 3, nodes: [2, 3, 4, 5] });
  expect(wantedQuorum(view, 3, everybody)).toEqual(NO_QUORUM);
});

test('a partition that nobody follows in step takes no part', () => {
  const view = viewOf([[1, 2], [1, 3], [1]]);
  expect(wantedQuorum(view, 1, everybody)).toEqual({ count: 2, nodes: [2, 3] });
  expect(wantedQuorum(withState(view, 0, 2, 'stale'), 1, everybody)).toEqual({ count: 1, nodes: [3] });
});

test('a dead follower is left out where another lives; where none does, quorum_lost decides', () => {
  const view = viewOf([
    [1, 2, 3],
    [1, 3, 4],
  ]);
  expect(wantedQuorum(view, 1, except(2))).toEqual({ count: 1, nodes: [3] });
  expect(wantedQuorum(view, 1, except(2, 3))).toEqual({ count: 2, nodes: [2, 4] });
  const allowing = { ...view, settings: defaultSettings({ quorum_lost: 'allow' }) };
  expect(wantedQuorum(allowing, 1, except(2, 3))).toEqual({ count: 1, nodes: [4] });
});

test('under fail, what is lost is waited for until it refuses, and then left out', () => {
  const view = viewOf(
    [
      [1, 2, 3],
      [1, 3, 4],
      [2, 1, 3],
    ],
    { quorum_lost: 'fail' },
  );
  const lost = (of: ClusterView, node: NodeId, dead: NodeId[], demands: QuorumDemand[] = []) =>
    lostOn(of, node, except(...dead), demands).map((p) => p.pid);
  expect(lost(view, 1, [2])).toEqual([]);
  expect(lost(view, 1, [2, 3])).toEqual([0]);
  expect(lost(view, 1, [2, 3, 4])).toEqual([0, 1]);
  expect(lost(withState(withState(view, 0, 2, 'stale'), 0, 3, 'leaving'), 1, [2, 3])).toEqual([]);
  expect(lost({ ...view, settings: defaultSettings() }, 1, [2, 3])).toEqual([]);
  expect(lost({ ...view, settings: defaultSettings({ quorum_lost: 'fail', durability: 'async' }) }, 1, [2, 3])).toEqual(
    [],
  );
  // About to be led by node 1, and about to lose the only live follower.
  expect(lost(view, 1, [2, 3], [{ node: 1, tid: 1, pid: 2 }])).toEqual([0, 2]);
  expect(lost(view, 1, [2], [{ node: 1, tid: 1, pid: 0, without: [3] }])).toEqual([0]);
  expect(wantedQuorum(view, 1, except(2, 3))).toEqual({ count: 2, nodes: [2, 4] });
  expect(wantedQuorum(view, 1, except(2, 3), [], new Set(['1/0']))).toEqual({ count: 1, nodes: [4] });
  const quorum = wantedQuorum(view, 1, except(2, 3), [], new Set(['1/0']));
  const shown = [0, 1].map((pid) => {
    const partition = view.tables.get(1)?.partitions[pid];
    return partition && durabilityOf(view, partition, quorum, except(2, 3), new Set(['1/0']));
  });
  expect(shown).toEqual(['refuses', 'quorum']);
});

test('what operations demand counts beside what is', () => {
  const view = viewOf([
    [1, 2, 3],
    [2, 1, 4],
  ]);
  const demand = (node: NodeId, ...without: NodeId[]): QuorumDemand => ({ node, tid: 1, pid: 0, without });
  expect(wantedQuorum(view, 2, everybody, [demand(2)])).toEqual({ count: 2, nodes: [1, 3, 4] });
  expect(wantedQuorum(view, 1, everybody, [demand(1, 3)])).toEqual({ count: 1, nodes: [2] });
  const joining = withState(view, 0, 3, 'joining');
  expect(wantedQuorum(joining, 1, everybody, [{ node: 1, tid: 1, pid: 0, with: [3] }])).toEqual({
    count: 1,
    nodes: [2],
  });
  expect(wantedQuorum(view, 1, everybody, [demand(1, 2, 3)])).toEqual({ count: 1, nodes: [2, 3] });
});

test('nobody waits for a node whose every partition has a follower that is waited for anyway', () => {
  const view = viewOf([
    [1, 2],
    [1, 3],
    [1, 3, 4],
  ]);
  expect(wantedQuorum(view, 1, everybody)).toEqual({ count: 2, nodes: [2, 3] });
});

test('where one follower has no other beside it, as few as possible are waited for', () => {
  const view = viewOf([
    [1, 2],
    [1, 3, 5],
    [1, 4, 5],
    [1, 6, 7],
  ]);
  expect(wantedQuorum(view, 1, everybody)).toEqual({ count: 3, nodes: [2, 5, 6] });
});

test('a table that is being made counts when its operation says so', () => {
  const view = viewOf([
    [1, 2],
    [2, 3],
  ]);
  const table = view.tables.get(1);
  const creating = { ...view, tables: new Map(table ? [[1, { ...table, state: 'creating' as const }]] : []) };
  expect(wantedQuorum(creating, 1, everybody)).toEqual(NO_QUORUM);
  const demand = { node: 1, tid: 1, pid: null };
  expect(wantedQuorum(creating, 1, everybody, [demand])).toEqual({ count: 1, nodes: [2] });
});

test('the setting async waits for nobody', () => {
  const view = viewOf([[1, 2, 3]], { durability: 'async' });
  expect(wantedQuorum(view, 1, everybody)).toEqual(NO_QUORUM);
});

test('how safe a partition is', () => {
  const view = viewOf([[1, 2], [1, 3], [4]]);
  const shown = (of: ClusterView, dead: NodeId[] = []) =>
    (of.tables.get(1)?.partitions ?? []).map((p) =>
      durabilityOf(of, p, wantedQuorum(of, p.leader, except(...dead)), except(...dead)),
    );
  expect(shown(view)).toEqual(['quorum', 'quorum', 'leader']);
  expect(shown(view, [2])).toEqual(['waits', 'waits', 'leader']);
  const allowing = { ...view, settings: defaultSettings({ quorum_lost: 'allow' }) };
  expect(shown(allowing, [2])).toEqual(['leader', 'quorum', 'leader']);
  expect(shown({ ...view, settings: defaultSettings({ durability: 'async' }) })).toEqual(['async', 'async', 'async']);
});

const nodesOf7 = fc.subarray([1, 2, 3, 4, 5, 6, 7], { minLength: 1 });
const quorum = nodesOf7.chain((nodes) =>
  fc.integer({ min: 1, max: nodes.length }).map((count): Quorum => ({ count, nodes })),
);

test('any quorum that is wanted protects every partition', () => {
  const partition = fc.subarray([2, 3, 4, 5, 6], { minLength: 0 }).map((followers) => [1, ...followers]);
  fc.assert(
    fc.property(fc.array(partition, { minLength: 1, maxLength: 6 }), (placement) => {
      const wanted = wantedQuorum(viewOf(placement), 1, everybody);
      for (const [, ...followers] of placement)
        if (followers.length > 0) expect(protects(wanted, followers)).toBe(true);
    }),
  );
});

test('transitions protect what both ends protect, whoever has taken up which', () => {
  fc.assert(
    fc.property(quorum, quorum, nodesOf7, (observed, wanted, followers) => {
      fc.pre(protects(wanted, followers));
      const protectedBefore = protects(observed, followers);
      const path = [observed, ...syncTransitions(observed, wanted)];
      expect(path.at(-1)).toEqual(wanted);
      for (const [i, next] of path.slice(1).entries()) {
        // From the first change on, what will be protected is.
        expect(protects(next, followers), JSON.stringify(path)).toBe(true);
        if (i === 0 && !protectedBefore) continue;
        const now = path[i] ?? next;
        // The worst mixture: the smaller count over all names of both.
        const mixed = { count: Math.min(now.count, next.count), nodes: [...new Set([...now.nodes, ...next.nodes])] };
        expect(protects(mixed, followers), `${JSON.stringify(path)} at ${i}`).toBe(true);
      }
    }),
    { numRuns: 2_000 },
  );
});

test('transitions begun anew after any of them go on with the rest', () => {
  fc.assert(
    fc.property(quorum, quorum, (observed, wanted) => {
      const all = [...syncTransitions(observed, wanted)];
      for (const [i, reached] of all.entries()) {
        expect([...syncTransitions(reached, wanted)]).toEqual(all.slice(i + 1));
      }
    }),
    { numRuns: 1_000 },
  );
});

test('transitions from nothing and to nothing take one change', () => {
  const wanted = { count: 2, nodes: [2, 3] };
  expect([...syncTransitions(NO_QUORUM, wanted)]).toEqual([wanted]);
  expect([...syncTransitions(wanted, NO_QUORUM)]).toEqual([NO_QUORUM]);
  expect([...syncTransitions(wanted, wanted)]).toEqual([]);
});

test('names come under the greater number, and go under it', () => {
  const two = { count: 1, nodes: [2, 3] };
  const three = { count: 2, nodes: [2, 3, 4] };
  expect([...syncTransitions(two, three)]).toEqual([{ count: 2, nodes: [2, 3] }, three]);
  expect([...syncTransitions(three, two)]).toEqual([{ count: 2, nodes: [2, 3] }, two]);
});

test('durability async is no promise broken: who is out by then is judged by what was promised before', () => {
  const led = viewOf([[1, 2]]);
  const dead = { kind: 'node-changed', id: 1, change: { outage: { by: 'manager', sinceMs: 0 } } } as const;
  const async = { kind: 'setting-changed', key: 'durability', value: 'async' } as const;
  const quorum = { kind: 'setting-changed', key: 'durability', value: 'quorum' } as const;
  const after = (...changes: CatalogChange[]) => changes.reduce((view, change) => applyChange(view, change).view, led);
  // It had no follower in step, and acknowledged alone.
  expect(haveAllBetween(after(dead), 1, [2])).toBe(false);
  expect(haveAllBetween(after(dead, async), 1, [2])).toBe(false);
  expect(haveAllBetween(after(dead, async, quorum, async), 1, [2])).toBe(false);
  expect(haveAllBetween(after(async, dead), 1, [2])).toBe(true);
  expect(haveAllBetween(after(async, dead), 1, [])).toBe(false);
  const back = { kind: 'node-changed', id: 1, change: { outage: undefined } } as const;
  expect(haveAllBetween(after(dead, async, back, dead), 1, [2])).toBe(true);
});
