import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { EndingStore } from '../../../src/manager/ending-store.ts';
import { LmdbStore } from '../../../src/store/lmdb-store.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import type { MetaStore } from '../../../src/store/meta-store.ts';

const put = (store: MetaStore, key: string) => store.txn({ when: [], write: [{ put: key, value: key }] });

/**
 * Writers that never rest, until the store ends under them: what was acknowledged, and what all others were
 * told.
 */
async function writeOn(store: MetaStore, writers: number) {
  const [acknowledged, refusals]: [string[], unknown[]] = [[], []];
  const write = async (writer: number) => {
    for (let n = 0; ; n++) {
      try {
        await put(store, `/w/${writer}/${n}`);
        acknowledged.push(`/w/${writer}/${n}`);
      } catch (error) {
        return void refusals.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: writers }, (_, i) => write(i)));
  return { acknowledged, refusals };
}

async function expectNothingLost(under: MetaStore): Promise<void> {
  const store = new EndingStore(under, 7);
  const writing = writeOn(store, 8);
  for (let n = 0; n < 5; n++) await put(store, `/begun/${n}`);
  const exported = new Set((await store.endAndExport()).map((e) => e.key));
  const { acknowledged, refusals } = await writing;
  expect(acknowledged.length).toBeGreaterThan(5);
  expect(acknowledged.filter((key) => !exported.has(key))).toEqual([]);
  const lost = { code: 'MANAGER_LOST', details: { node: 7 } };
  expect(refusals).toEqual(Array.from({ length: 8 }, () => expect.objectContaining(lost)));
  await expect(store.get('/begun/0')).rejects.toMatchObject(lost);
  await expect(store.range('/')).rejects.toMatchObject(lost);
}

test('what is acknowledged while a store in memory ends is in what it exports, the rest is told why', () =>
  expectNothingLost(new MemoryStore()));

test('so it is with a store on disk', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'pgtide-ending-'));
  try {
    await expectNothingLost(await LmdbStore.open(directory));
  } finally {
    await rm(directory, { recursive: true });
  }
});
