import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { LmdbStore } from '../../../src/store/lmdb-store.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import type { MetaStore } from '../../../src/store/meta-store.ts';
import { metaStoreContract, sharedStoreContract } from '../../support/meta-store-contract.ts';

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

describe.each(stores)('meta store contract: %s', (_name, make) => metaStoreContract(make));

describe('shared store contract: memory', () => {
  let nowMs = 0;
  sharedStoreContract(
    async () => new MemoryStore(() => nowMs),
    async (ms) => {
      nowMs += ms;
    },
  );
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
