import { expect, test } from 'vitest';
import { applyChange, type CatalogChange } from '../../../src/catalog/change.ts';
import type { ClusterView } from '../../../src/catalog/model.ts';
import { partitionOf } from '../../../src/catalog/view.ts';
import { EMPTY_VIEW, nodeRecord, tableRecord } from '../../fakes/records.ts';

const REF = { tid: 1, pid: 0 };

function after(...changes: CatalogChange[]): ClusterView {
  return changes.reduce((view, change) => applyChange(view, change).view, EMPTY_VIEW);
}

const base: CatalogChange[] = [
  ...[1, 2, 3].map((id): CatalogChange => ({ kind: 'node-added', node: nodeRecord(id) })),
  {
    kind: 'table-added',
    table: tableRecord(1, 'acct', 2, [
      [1, 2],
      [2, 3],
    ]),
  },
];

test('a change leaves the view it was made from alone', () => {
  const view = after(...base);
  const before = structuredClone(view);
  applyChange(view, { kind: 'replica-added', ...REF, node: 3, state: 'joining' });
  applyChange(view, { kind: 'table-state', tid: 1, state: 'ready' });
  applyChange(view, { kind: 'setting-changed', key: 'min_nodes', value: 5 });
  expect(view).toEqual(before);
});

test('a replica comes, counts and goes; replicas stay sorted', () => {
  const view = after(...base, { kind: 'replica-added', tid: 1, pid: 1, node: 1, state: 'joining' });
  expect(partitionOf(view, 1, 1)?.replicas.map((r) => `${r.node} ${r.state}`)).toEqual([
    '1 joining',
    '2 ready',
    '3 ready',
  ]);
  const { view: ready } = applyChange(view, { kind: 'replica-changed', tid: 1, pid: 1, node: 1, state: 'ready' });
  expect(partitionOf(ready, 1, 1)?.replicas.map((r) => r.state)).toEqual(['ready', 'ready', 'ready']);
  const { view: gone } = applyChange(ready, { kind: 'replica-removed', tid: 1, pid: 1, node: 3 });
  expect(partitionOf(gone, 1, 1)?.replicas.map((r) => r.node)).toEqual([1, 2]);
});

test('a replica that was given up is not made again by who finds out what it has missed', () => {
  const added = { kind: 'replica-added', ...REF, node: 3, state: 'joining' } as const;
  const stale = { kind: 'replica-changed', ...REF, node: 3, state: 'stale' } as const;
  const removed = { kind: 'replica-removed', ...REF, node: 3 } as const;
  const nodes = (...changes: CatalogChange[]) =>
    partitionOf(after(...base, ...changes), 1, 0)?.replicas.map((r) => `${r.node} ${r.state}`);
  expect(nodes(added, removed, stale)).toEqual(nodes());
  expect(nodes(added, stale)).toContain('3 stale');
  // Nor does it count for who has only seen what it was before.
  const counted = { kind: 'replica-changed', ...REF, node: 3, state: 'ready', was: 'joining' } as const;
  expect(nodes(added, stale, counted)).toContain('3 stale');
  expect(nodes(added, counted)).toContain('3 ready');
  expect(nodes(added, removed, counted)).toEqual(nodes());
});

test('every change of leader raises the epoch', () => {
  const view = after(
    ...base,
    { kind: 'leader-changed', ...REF, leader: 2 },
    { kind: 'leader-changed', ...REF, leader: 1 },
  );
  expect(partitionOf(view, 1, 0)).toMatchObject({ leader: 1, epoch: 3 });
});

test('a change says what it touched, and nothing else', () => {
  const view = after(...base);
  const touched = (change: CatalogChange) => {
    const { nodes, tables, partitions, settings } = applyChange(view, change).touched;
    return { nodes: [...nodes], tables: [...tables], partitions: [...partitions], settings };
  };
  const nothing = { nodes: [], tables: [], partitions: [], settings: false };
  expect(touched({ kind: 'node-changed', id: 2, change: { state: 'decommissioning' } })).toEqual({
    ...nothing,
    nodes: [2],
  });
  expect(touched({ kind: 'leader-changed', ...REF, leader: 2 })).toEqual({ ...nothing, partitions: ['1/0'] });
  expect(touched({ kind: 'table-state', tid: 1, state: 'ready' })).toEqual({ ...nothing, tables: [1] });
  expect(touched({ kind: 'table-removed', tid: 1 })).toEqual({ ...nothing, tables: [1], partitions: ['1/0', '1/1'] });
  expect(touched({ kind: 'setting-changed', key: 'min_nodes', value: 1 })).toEqual({ ...nothing, settings: true });
});

const broken: [string, CatalogChange, string][] = [
  ['a leader without a replica', { kind: 'leader-changed', ...REF, leader: 3 }, 'leader 3 is not ready'],
  ['a leader that is stale', { kind: 'replica-changed', ...REF, node: 1, state: 'stale' }, 'leader 1 is not ready'],
  ['a leader that is removed', { kind: 'replica-removed', ...REF, node: 1 }, 'leader 1 is not ready'],
  ['a replica on an unknown node', { kind: 'replica-added', ...REF, node: 9, state: 'joining' }, 'unknown node'],
  [
    'a partition that does not exist',
    { kind: 'leader-changed', tid: 1, pid: 7, leader: 1 },
    'partition 1/7 is missing',
  ],
  ['a table that does not exist', { kind: 'table-state', tid: 9, state: 'ready' }, 'table 9 is missing'],
  ['a node that is there', { kind: 'node-added', node: nodeRecord(1) }, 'node 1 is added once'],
  ['a table that is there', { kind: 'table-added', table: tableRecord(1, 'a', 1, [[1]]) }, 'table 1 is added once'],
  [
    'two replicas on one node',
    { kind: 'table-added', table: tableRecord(2, 'item', 2, [[1, 1]]) },
    'two replicas on one node',
  ],
];

test.each(broken)('%s is refused', (_name, change, message) => {
  expect(() => applyChange(after(...base), change)).toThrow(message);
});
