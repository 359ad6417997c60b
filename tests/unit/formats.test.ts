import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { open } from 'lmdb';
import { describe, expect, test } from 'vitest';
import type { Partition, TableRecord } from '../../src/catalog/model.ts';
import { allPartitions } from '../../src/catalog/view.ts';
import { CatalogStore } from '../../src/manager/catalog-store.ts';
import { prepareStore, readIdentity } from '../../src/node/store-dir.ts';
import { adoptSteps } from '../../src/operations/adopt.ts';
import type { LeaderData } from '../../src/operations/data.ts';
import { Journal } from '../../src/operations/journal.ts';
import type { OperationRecord } from '../../src/operations/operation.ts';
import { OPERATION_KINDS } from '../../src/operations/registry.ts';
import { bringUpToDate, requireReadable } from '../../src/store/format.ts';
import { LmdbStore } from '../../src/store/lmdb-store.ts';
import { MemoryStore } from '../../src/store/memory-store.ts';
import { FORMAT_KEY, META_FORMAT, ROLES_FORMAT } from '../../src/store/meta-store.ts';
import { faultsOf } from '../fakes/cleanliness.ts';
import { World } from '../fakes/world.ts';

/**
 * Dumps of real clusters with operations under way (scripts/format-fixture.mjs), one per format there ever
 * was: every version goes on from them.
 */
const FORMATS = Array.from({ length: META_FORMAT }, (_, i) => i + 1);

/**
 * What a store has after it was opened: where clients are superusers they stay it until all nodes run this
 * version.
 */
const opened = (format: number) => Math.max(format, ROLES_FORMAT - 1);

interface Fixture {
  identity: object;
  entries: { key: string; value: unknown }[];
}

function fixture(format: number): Fixture {
  return JSON.parse(readFileSync(new URL(`../fixtures/formats/v${format}.json`, import.meta.url), 'utf8')) as Fixture;
}

async function storeOf({ entries }: Fixture): Promise<MemoryStore> {
  const store = new MemoryStore();
  await store.txn({ when: [], write: entries.map(({ key, value }) => ({ put: key, value })) });
  return store;
}

const unendedIn = async (store: MemoryStore) => (await Journal.open(store)).all().filter((r) => r.endedMs === null);

/**
 * The cluster of a fixture as its servers were: what counted stood and flowed, what operations had begun
 * stood half-made.
 */
async function worldOf(store: MemoryStore): Promise<World> {
  const { view } = await CatalogStore.open(store);
  const counting = (p: Partition) => ({ ...p, replicas: p.replicas.filter((r) => r.state === 'ready') });
  const tables = [...view.tables.values()].map((t): TableRecord => ({ ...t, partitions: t.partitions.map(counting) }));
  const world = await World.settled([...view.nodes.keys()], tables);
  const plane = world.plane();
  for (const { table, partition } of allPartitions(view)) {
    for (const { node } of partition.replicas.filter((r) => r.state !== 'ready'))
      await plane.replicas.create(node, table, partition.pid);
  }
  for (const { kind, input, began, ...record } of await unendedIn(store)) {
    if (kind !== 'change-leader' || began !== 'swing') continue;
    const { epoch } = record.data as LeaderData;
    const { tid, pid, from, to } = input as Record<'tid' | 'pid' | 'from' | 'to', number>;
    const table = view.tables.get(tid) as TableRecord;
    await plane.hinges.createForward(from, to, table, pid, Number(epoch));
    await plane.replicas.setGuard(to, { tid, pid }, false);
  }
  const write = (await store.range('/')).map(({ key, value }) => ({ put: key, value }));
  await world.store.txn({ when: [], write });
  await world.restart();
  await world.settleQuorums();
  world.hingesFollow = true;
  return world;
}

describe.each(FORMATS)('format %i', (format) => {
  test('is brought to this one, once, and its catalog loads', async () => {
    const store = await storeOf(fixture(format));
    const to = opened(format);
    expect(await bringUpToDate(store, 'here')).toEqual({ from: format, to });
    const once = await store.range('/');
    expect(await bringUpToDate(store, 'here')).toEqual({ from: to, to });
    expect(await store.range('/')).toEqual(once);
    const { view } = await CatalogStore.open(store);
    expect(view.ownRoles).toBe(format >= ROLES_FORMAT ? true : undefined);
    expect([...view.nodes.keys()]).toEqual([1, 2, 3, 4]);
    expect([...view.tables.values()].map((t) => [t.name, t.partitions.length, t.replicaCount])).toEqual([
      ['acct', 4, 2],
      ['log', 4, 1],
    ]);
    expect(view.settings['rebalance.auto']).toBe(false);
  });

  test('its operations go on to their ends and leave nothing behind', async () => {
    const store = await storeOf(fixture(format));
    await bringUpToDate(store, 'here');
    const kinds = (await unendedIn(store)).map((r) => r.kind);
    expect(kinds).toEqual(expect.arrayContaining(['change-leader', 'move-replica', 'add-replica', 'decommission']));
    const world = await worldOf(store);
    await world.settle();
    // Two plans that want the same change of leader: the second finds it done.
    const refused = world.runner.all().filter((r) => r.parent !== null && r.error?.code === 'NOT_A_FOLLOWER');
    const ended = world.runner.all().filter((r) => !refused.includes(r));
    expect(ended.filter((r) => r.status !== 'done')).toEqual([]);
    expect(world.view.nodes.get(4)?.state).toBe('decommissioned');
    expect(faultsOf(world)).toEqual([]);
  });

  test.runIf(format < ROLES_FORMAT)(
    'gets to the format without superusers when that is said, and not before',
    async () => {
      const store = await storeOf(fixture(format));
      await bringUpToDate(store, 'here');
      const catalog = await CatalogStore.open(store);
      await catalog.separateRoles();
      expect(catalog.view.ownRoles).toBe(true);
      expect(await bringUpToDate(store, 'here')).toEqual({ from: ROLES_FORMAT, to: META_FORMAT });
      expect((await CatalogStore.open(store)).view).toEqual(catalog.view);
    },
  );

  test('its node.json is read', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'pgtide-format-'));
    try {
      const store = await prepareStore(dir);
      writeFileSync(join(dir, 'node.json'), JSON.stringify(fixture(format).identity));
      expect(await readIdentity(store)).toMatchObject({ nodeId: 1, metaHome: true, state: 'member' });
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
});

describe('a store of a newer program', () => {
  test('is refused and left as it is', async () => {
    const store = await storeOf(fixture(META_FORMAT));
    await store.txn({ when: [], write: [{ put: FORMAT_KEY, value: { version: META_FORMAT + 1 } }] });
    const before = await store.range('/');
    const refusal = { code: 'STORE_TOO_NEW', details: { path: 'here', found: META_FORMAT + 1, known: META_FORMAT } };
    await expect(bringUpToDate(store, 'here')).rejects.toMatchObject(refusal);
    expect(() => requireReadable(before, 'here')).toThrow(expect.objectContaining({ code: 'STORE_TOO_NEW' }));
    expect(await store.range('/')).toEqual(before);
  });

  test('is refused as a file too', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'pgtide-format-'));
    try {
      const root = open({ path: dir, maxDbs: 4 });
      await root.openDB({ name: 'facts', encoding: 'json' }).put('format', 9);
      await root.close();
      await expect(LmdbStore.open(dir)).rejects.toMatchObject({ code: 'STORE_TOO_NEW', details: { found: 9 } });
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test('a new store says its format', async () => {
    const store = new MemoryStore();
    expect(await bringUpToDate(store, 'here')).toEqual({ from: null, to: META_FORMAT });
    expect((await store.get(FORMAT_KEY))?.value).toEqual({ version: META_FORMAT });
  });
});

describe('an operation that another version has begun', () => {
  const record = (change: Partial<OperationRecord>) =>
    ({
      id: 7,
      kind: 'k',
      status: 'running',
      steps: ['a', 'b', 'd'],
      step: 2,
      began: null,
      passedNoReturn: false,
      data: {},
      ...change,
    }) as OperationRecord;
  const now = ['a', 'b', 'c', 'd', 'e'];

  test.each([
    ['goes on with the first step that is not done, new ones included', {}, 2],
    ['stays where it was behind the point of no return', { passedNoReturn: true }, 3],
    ['stays at a step that may have passed it', { began: 'd' }, 3],
    ['is undone from where it was', { status: 'undoing', step: 1 }, 1],
    ['begins at the beginning while it is queued', { status: 'queued', step: 0 }, 0],
  ] as const)('%s', (_name, change, step) => {
    expect(adoptSteps(record(change), now)).toMatchObject({ step, steps: now });
  });

  test('is left alone where nothing differs, or it has ended', () => {
    const same = record({ steps: now });
    expect(adoptSteps(same, now)).toBe(same);
    const ended = record({ status: 'done' });
    expect(adoptSteps(ended, now)).toBe(ended);
  });

  test('is left to another where its step is not known here', () => {
    expect(adoptSteps(record({ passedNoReturn: true }), ['a', 'b'])).toBeNull();
  });
});

test('every kind of operation of every format is still known', async () => {
  for (const format of FORMATS) {
    for (const { kind } of await unendedIn(await storeOf(fixture(format))))
      expect(OPERATION_KINDS.has(kind), kind).toBe(true);
  }
});
