import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { LmdbStore } from '../../../src/store/lmdb-store.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import type { MetaStore } from '../../../src/store/meta-store.ts';

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const clean of cleanups.splice(0)) clean();
});

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'pgtide-store-'));
  cleanups.push(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const stores: [string, () => Promise<MetaStore>][] = [
  ['memory', async () => new MemoryStore()],
  ['lmdb', () => LmdbStore.open(temporaryDirectory())],
];

describe.each(stores)('meta store contract: %s', (_name, make) => {
  it('keeps what was put, under the revision that put it', async () => {
    const store = await make();
    const { revision } = await store.txn({ when: [], write: [{ put: '/a', value: { x: [1, 'two'] } }] });
    expect(await store.get('/a')).toEqual({ key: '/a', value: { x: [1, 'two'] }, revision });
    expect(await store.get('/b')).toBeNull();
    await store.close();
  });

  it('lists a prefix in key order and nothing beside it', async () => {
    const store = await make();
    const puts = ['/n/2', '/n/10', '/n/1', '/m/1', '/o'].map((put) => ({ put, value: put }));
    await store.txn({ when: [], write: puts });
    expect((await store.range('/n/')).map((e) => e.key)).toEqual(['/n/1', '/n/10', '/n/2']);
    await store.close();
  });

  it('applies all or nothing, and only on the revision the writer saw', async () => {
    const store = await make();
    const first = await store.txn({ when: [{ key: '/a', revision: 0 }], write: [{ put: '/a', value: 1 }] });
    expect(first.ok).toBe(true);
    const again = await store.txn({
      when: [{ key: '/a', revision: 0 }],
      write: [
        { put: '/a', value: 2 },
        { put: '/b', value: 2 },
      ],
    });
    expect(again.ok).toBe(false);
    expect((await store.get('/a'))?.value).toBe(1);
    expect(await store.get('/b')).toBeNull();
    const seen = await store.txn({ when: [{ key: '/a', revision: first.revision }], write: [{ delete: '/a' }] });
    expect(seen.ok).toBe(true);
    expect(await store.get('/a')).toBeNull();
    await store.close();
  });

  it('lets exactly one of many racing writers win', async () => {
    const store = await make();
    const racers = Array.from({ length: 20 }, (_, i) =>
      store.txn({ when: [{ key: '/leader', revision: 0 }], write: [{ put: '/leader', value: i }] }),
    );
    const results = await Promise.all(racers);
    expect(results.filter((r) => r.ok)).toHaveLength(1);
    await store.close();
  });
});

it('lmdb keeps everything over a reopen', async () => {
  const directory = temporaryDirectory();
  const before = await LmdbStore.open(directory);
  const { revision } = await before.txn({ when: [], write: [{ put: '/a', value: 1 }] });
  await before.close();
  const after = await LmdbStore.open(directory);
  expect(await after.get('/a')).toEqual({ key: '/a', value: 1, revision });
  expect((await after.txn({ when: [{ key: '/a', revision }], write: [{ put: '/a', value: 2 }] })).revision).toBe(
    revision + 1,
  );
  await after.close();
});
