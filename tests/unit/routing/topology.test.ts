import fc from 'fast-check';
import { expect, test } from 'vitest';
import { applyChange, type CatalogChange } from '../../../src/catalog/change.ts';
import type { ClusterView } from '../../../src/catalog/model.ts';
import { replicaOn } from '../../../src/catalog/view.ts';
import { must } from '../../../src/core/assert.ts';
import {
  changedTopology,
  changesNothing,
  type TopologyChange,
  topologyChange,
  topologyOf,
  wholeTopology,
} from '../../../src/routing/topology.ts';
import { EMPTY_VIEW, nodeRecord, tableRecord } from '../../fakes/records.ts';

function after(view: ClusterView, ...changes: CatalogChange[]): ClusterView {
  return changes.reduce((v, change) => ({ ...applyChange(v, change).view, revision: v.revision + 1 }), view);
}

const NODES = [1, 2, 3, 4].map((id): CatalogChange => ({ kind: 'node-added', node: nodeRecord(id) }));
const tablePut = (tid: number): CatalogChange => ({
  kind: 'table-added',
  table: tableRecord(tid, `t${tid}`, 2, [[1, 2], [2, 3], [3, 1]]), // biome-ignore format: short
});
const SETTLED = after(EMPTY_VIEW, ...NODES, tablePut(1), tablePut(2));

test('what a router needs is there, and nothing that is the manager’s', () => {
  const stale: CatalogChange = { kind: 'replica-changed', tid: 1, pid: 0, node: 2, state: 'stale', why: 'it was cut' };
  const { nodes, tables, revision } = topologyOf(after(SETTLED, stale));
  expect(revision).toBe(7);
  expect(nodes.get(1)).toEqual({
    id: 1,
    state: 'active',
    isOut: false,
    isDraining: false,
    address: '10.0.0.1:26257',
    httpAddress: '10.0.0.1:8080',
    postgresHost: '10.0.0.1',
    postgresPort: 5432,
  });
  const { columns, primaryKey, distributeBy, partitions } = must(tables.get(1), 'table');
  expect([distributeBy, primaryKey, columns.map((c) => Object.keys(c))]).toEqual([
    'id',
    ['id'],
    columns.map(() => ['name', 'type', 'notNull']),
  ]);
  expect(partitions[0]).toEqual({
    tid: 1,
    pid: 0,
    epoch: 1,
    leader: 1,
    replicas: [
      { node: 1, state: 'ready' },
      { node: 2, state: 'stale' },
    ],
  });
});

test('a node that has left is not in it', () => {
  const left = after(SETTLED, { kind: 'node-changed', id: 4, change: { state: 'decommissioned' } });
  expect([...topologyOf(left).nodes.keys()]).toEqual([1, 2, 3]);
});

test('a change of leader is one partition, a change that routes nothing is none', () => {
  const before = topologyOf(SETTLED);
  const led = topologyChange(before, topologyOf(after(SETTLED, { kind: 'leader-changed', tid: 2, pid: 1, leader: 3 })));
  expect(led).toMatchObject({ from: 6, revision: 7, nodes: [], tables: [], nodesGone: [], tablesGone: [] });
  expect(led.partitions).toMatchObject([{ tid: 2, pid: 1, leader: 3, epoch: 2 }]);
  expect(changesNothing(led)).toBe(false);
  const quorums: CatalogChange = { kind: 'node-changed', id: 1, change: { quorums: [{ count: 1, nodes: [2] }] } };
  const silent = [quorums, { kind: 'setting-changed', key: 'min_nodes', value: 1 } as const];
  expect(changesNothing(topologyChange(before, topologyOf(after(SETTLED, ...silent))))).toBe(true);
});

test('a change of another topology is not taken for one of this', () => {
  const change: TopologyChange = { ...topologyChange(topologyOf(SETTLED), topologyOf(SETTLED)), from: 5 };
  expect(changedTopology(topologyOf(SETTLED), change)).toBeNull();
  expect(changedTopology(null, change)).toBeNull();
});

interface Step {
  kind: 'leader' | 'table' | 'node' | 'replica';
  tid: number;
  pid: number;
  id: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('leader', 'table', 'node', 'replica'),
  tid: fc.integer({ min: 1, max: 3 }),
  pid: fc.nat(2),
  id: fc.integer({ min: 1, max: 5 }),
});

/** Made of what fits the view. */
function changeFor(view: ClusterView, { kind, tid, pid, id }: Step): CatalogChange[] {
  const partition = view.tables.get(tid)?.partitions[pid];
  if (kind === 'node' || !view.nodes.has(id)) {
    if (!view.nodes.has(id)) return [{ kind: 'node-added', node: nodeRecord(id) }];
    const states = ['active', 'decommissioning', 'decommissioned'] as const;
    return [{ kind: 'node-changed', id, change: { state: must(states[pid], 'state'), draining: pid === tid } }];
  }
  if (!partition) return [tablePut(tid)];
  if (kind === 'table')
    return [pid === 0 ? { kind: 'table-removed', tid } : { kind: 'table-state', tid, state: 'ready' }];
  if (kind === 'replica')
    return id === partition.leader
      ? []
      : [{ kind: 'replica-added', tid, pid, node: id, state: pid === 0 ? 'stale' : 'ready' }];
  return replicaOn(partition, id)?.state === 'ready' ? [{ kind: 'leader-changed', tid, pid, leader: id }] : [];
}

test('any topology and what has changed since make the later one, also as JSON', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.nat(30), (steps, at) => {
      const views = [SETTLED];
      for (const s of steps) {
        const view = must(views.at(-1), 'view');
        views.push(after(view, ...changeFor(view, s)));
      }
      const [early, late] = [
        topologyOf(must(views[at % views.length], 'view')),
        topologyOf(must(views.at(-1), 'view')),
      ];
      for (const [before, change] of [
        [early, topologyChange(early, late)],
        [early, wholeTopology(late)],
        [null, wholeTopology(late)],
      ] as const)
        expect(changedTopology(before, JSON.parse(JSON.stringify(change)))).toEqual(late);
    }),
  );
});
