import { expect, test } from 'vitest';
import { CatalogStore } from '../../../src/manager/catalog-store.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { nodeRecord, tableRecord } from '../../fakes/records.ts';

async function opened(store = new MemoryStore()): Promise<{ store: MemoryStore; catalog: CatalogStore }> {
  await CatalogStore.initialise(store, { clusterId: 'test', startMode: 'start' });
  return { store, catalog: await CatalogStore.open(store) };
}

test('a manager that starts anew sees what the last one committed', async () => {
  const { store, catalog } = await opened();
  const placement = Array.from({ length: 12 }, () => [1, 2]);
  await catalog.commit([1, 2].map((id) => ({ kind: 'node-added', node: nodeRecord(id) })));
  await catalog.commit([
    { kind: 'table-added', table: tableRecord(await catalog.nextId('table'), 'acct', 2, placement) },
  ]);
  await catalog.commit([
    { kind: 'table-added', table: tableRecord(await catalog.nextId('table'), 'gone', 2, placement) },
  ]);
  await catalog.commit([{ kind: 'leader-changed', tid: 1, pid: 11, leader: 2 }]);
  await catalog.commit([{ kind: 'table-removed', tid: 2 }]);
  await catalog.commit([{ kind: 'setting-changed', key: 'min_nodes', value: 1 }]);
  const again = await CatalogStore.open(store);
  expect(again.view).toEqual(catalog.view);
  expect(await again.nextId('table')).toBe(3);
});

test('changes are made together or not at all', async () => {
  const { store, catalog } = await opened();
  await catalog.commit([{ kind: 'node-added', node: nodeRecord(1) }]);
  const before = catalog.view;
  const bad = tableRecord(1, 'acct', 2, [[1, 9]]);
  await expect(
    catalog.commit([
      { kind: 'setting-changed', key: 'min_nodes', value: 7 },
      { kind: 'table-added', table: bad },
    ]),
  ).rejects.toThrow('unknown node');
  expect(catalog.view).toBe(before);
  expect((await CatalogStore.open(store)).view).toEqual(before);
});

test('a manager that was replaced cannot write', async () => {
  const { store } = await opened();
  const told: string[] = [];
  const old = await CatalogStore.open(store, (why) => void told.push(why));
  await old.commit([{ kind: 'node-added', node: nodeRecord(1) }]);
  const young = await CatalogStore.open(store);
  await young.commit([{ kind: 'node-changed', id: 1, change: { state: 'decommissioning' } }]);
  const late = old.commit([{ kind: 'node-changed', id: 1, change: { draining: true } }]);
  await expect(late).rejects.toThrow('another manager');
  expect(told).toEqual(['the catalog was written by another manager']);
  expect(old.view.nodes.get(1)?.draining).toBe(false);
});

test('a cluster is begun once, and a single-replica one has its own defaults', async () => {
  const { store } = await opened();
  await CatalogStore.initialise(store, { clusterId: 'other', startMode: 'start-single-replica' });
  expect((await CatalogStore.open(store)).view).toMatchObject({ clusterId: 'test', settings: { min_nodes: 3 } });
  const single = new MemoryStore();
  await CatalogStore.initialise(single, { clusterId: 'one', startMode: 'start-single-replica' });
  expect((await CatalogStore.open(single)).view.settings).toMatchObject({ 'rebalance.auto': false, min_nodes: 1 });
});

test('the revision rises by one with every change and goes on in every place that the store moves to', async () => {
  const { store, catalog } = await opened();
  const told: unknown[] = [];
  catalog.onChange(({ revision }, changes) => told.push([revision, ...changes.map((c) => c.kind)]));
  await catalog.commit([{ kind: 'node-added', node: nodeRecord(1) }]);
  await catalog.nextId('table');
  await catalog.commit([{ kind: 'setting-changed', key: 'min_nodes', value: 1 }]);
  await catalog.separateRoles();
  expect(told).toEqual([[1, 'node-added'], [2, 'setting-changed'], [3]]);
  expect((await CatalogStore.open(store)).view.revision).toBe(3);

  const moved = new MemoryStore();
  const entries = await store.range('/');
  await moved.txn({ when: [], write: entries.map(({ key, value }) => ({ put: key, value })) });
  const next = await CatalogStore.open(moved);
  await next.commit([{ kind: 'setting-changed', key: 'min_nodes', value: 3 }]);
  expect(next.view.revision).toBe(4);
});

test('a store whose catalog an older program has written goes on behind all that it can have counted', async () => {
  const { store, catalog } = await opened();
  for (const id of [1, 2, 3]) await catalog.commit([{ kind: 'node-added', node: nodeRecord(id) }]);
  await store.txn({ when: [], write: [{ put: '/catalog/version', value: null }] });
  expect((await CatalogStore.open(store)).view.revision).toBeGreaterThan(3);
});
