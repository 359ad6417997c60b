import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { Journal } from '../../../src/operations/journal.ts';
import { hasEnded } from '../../../src/operations/machine.ts';
import type { OperationRecord, OperationStatus } from '../../../src/operations/operation.ts';
import { forgettable } from '../../../src/operations/retention.ts';
import { LmdbStore } from '../../../src/store/lmdb-store.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import type { MetaStore, Write } from '../../../src/store/meta-store.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

const HOUR_MS = 3_600_000;
const NOW_MS = 1_000 * HOUR_MS;
const limits = (count: number, seconds: number) => ({
  'operations.keep_count': count,
  'operations.keep_for': seconds,
});
type Short = Pick<OperationRecord, 'id' | 'parent' | 'status' | 'endedMs'>;
const op = (id: number, agoMs: number | null, parent: number | null = null, status: OperationStatus = 'done'): Short =>
  agoMs === null ? { id, parent, status: 'running', endedMs: null } : { id, parent, status, endedMs: NOW_MS - agoMs };

describe('which operations are kept no more', () => {
  test('those beyond the number, the oldest first', () => {
    const records = [1, 2, 3, 4, 5].map((id) => op(id, (6 - id) * HOUR_MS));
    expect(forgettable(records, limits(3, 1e6), NOW_MS)).toEqual([1, 2]);
    expect(forgettable(records, limits(5, 1e6), NOW_MS)).toEqual([]);
  });

  test('those that are older than the time', () => {
    const records = [1, 2, 3, 4, 5].map((id) => op(id, (6 - id) * HOUR_MS));
    expect(forgettable(records, limits(100, 2.5 * 3_600), NOW_MS)).toEqual([1, 2, 3]);
  });

  test('none that runs, whatever its age, nor what it has started', () => {
    const records = [op(1, null), op(2, 9 * HOUR_MS, 1), op(3, 9 * HOUR_MS), op(4, 9 * HOUR_MS)];
    expect(forgettable(records, limits(1, 60), NOW_MS)).toEqual([3]);
  });

  test('one that has started others goes with them, when the last of all has ended long enough ago', () => {
    const records = [
      op(1, 9 * HOUR_MS),
      op(2, 9 * HOUR_MS, 1, 'failed'),
      op(3, HOUR_MS, 1),
      op(4, 8 * HOUR_MS),
      op(5, null),
    ];
    expect(forgettable(records, limits(100, 2 * 3_600), NOW_MS)).toEqual([4]);
    expect(forgettable(records, limits(100, 1_800), NOW_MS)).toEqual([1, 2, 3, 4]);
    // Three of one kind are more than the two that may stay beside the newer one.
    expect(forgettable(records, limits(2, 1e6), NOW_MS)).toEqual([1, 2, 3, 4].filter((id) => id !== 4));
  });

  test('none that has ended just now: somebody waits for it', () => {
    expect(forgettable([op(1, 1_000), op(2, 1_000), op(3, 1_000)], limits(1, 60), NOW_MS)).toEqual([]);
  });

  test('never the newest of all, after which the next one is numbered', () => {
    expect(forgettable([op(1, 9 * HOUR_MS), op(2, 9 * HOUR_MS)], limits(1, 60), NOW_MS)).toEqual([1]);
    expect(forgettable([], limits(1, 60), NOW_MS)).toEqual([]);
  });

  test('whatever there is: nothing that runs or belongs to what runs, and no part of a whole', () => {
    const status = fc.constantFrom<OperationStatus>('queued', 'running', 'undoing', 'done', 'failed', 'cancelled');
    const records = fc
      .array(fc.tuple(status, fc.nat(20 * HOUR_MS), fc.option(fc.nat(30))), { minLength: 1, maxLength: 30 })
      .map((all) =>
        all.map(([is, agoMs, parent], i): Short => {
          const isOver = hasEnded({ status: is });
          // Whoever started it is older.
          const by = parent !== null && parent < i ? parent + 1 : null;
          return { id: i + 1, parent: by, status: is, endedMs: isOver ? NOW_MS - agoMs : null };
        }),
      );
    fc.assert(
      fc.property(
        records,
        fc.integer({ min: 1, max: 30 }),
        fc.integer({ min: 60, max: 72_000 }),
        (all, count, seconds) => {
          const gone = new Set(forgettable(all, limits(count, seconds), NOW_MS));
          const byId = new Map(all.map((r) => [r.id, r]));
          for (const record of all) {
            if (!hasEnded(record)) expect(gone.has(record.id)).toBe(false);
            const parent = record.parent === null ? undefined : byId.get(record.parent);
            if (parent) expect(gone.has(parent.id)).toBe(gone.has(record.id));
          }
          expect(gone.has(all.length)).toBe(false);
        },
      ),
    );
  });
});

async function withLmdb(work: (open: () => Promise<MetaStore>) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'tide-history-'));
  try {
    await work(() => LmdbStore.open(directory));
  } finally {
    await rm(directory, { recursive: true });
  }
}

async function withMemory(work: (open: () => Promise<MetaStore>) => Promise<void>): Promise<void> {
  const store = new MemoryStore();
  await work(async () => store);
}

describe.each([
  ['LMDB', withLmdb],
  ['memory', withMemory],
])('the journal in %s', (_, withStore) => {
  test('forgets in short transactions, and is opened again without what it has forgotten', async () => {
    await withStore(async (open) => {
      const store = await open();
      const journal = await Journal.open(store);
      const record = (id: number) => ({ ...op(id, HOUR_MS), kind: 'x' }) as OperationRecord;
      for (let n = 0; n < 100; n++) await journal.append(record);
      const sizes: number[] = [];
      const txn = store.txn.bind(store);
      store.txn = (request: { when: never[]; write: Write[] }) => {
        sizes.push(request.write.length);
        return txn(request);
      };
      await journal.forget(Array.from({ length: 99 }, (_, i) => i + 1));
      expect(Math.max(...sizes)).toBeLessThanOrEqual(40);
      expect(sizes.reduce((a, b) => a + b)).toBe(99);
      expect(journal.all().map((r) => r.id)).toEqual([100]);
      expect(journal.isForgotten(99)).toBe(true);
      expect([100, 101].map((id) => journal.isForgotten(id))).toEqual([false, false]);
      await store.close();
      const again = await open();
      const next = await Journal.open(again);
      expect(next.all().map((r) => r.id)).toEqual([100]);
      expect(next.isForgotten(1)).toBe(true);
      expect((await next.append(record)).id).toBe(101);
      await again.close();
    });
  });
});

test('one that was forgotten is told from one that never was', async () => {
  const world = await World.settled([1, 2, 3], [tableRecord(1, 'acct', 3, [[1, 2, 3]])]);
  const { id } = await world.run('change-leader', { tid: 1, pid: 0, from: 1, to: 2 });
  const { id: second } = await world.run('change-leader', { tid: 1, pid: 0, from: 2, to: 1 });
  await world.runner.forgetOld();
  expect(world.runner.known(id).status).toBe('done');
  const { 'operations.keep_for': seconds } = defaultSettings();
  await world.clock.during(world.clock.sleep((seconds + 1) * 1_000));
  await world.runner.forgetOld();
  const forgotten = { code: 'OP_FORGOTTEN', message: `operation ${id} is over and kept no more` };
  expect(() => world.runner.known(id)).toThrow(expect.objectContaining(forgotten));
  await expect(world.runner.cancel(id)).rejects.toMatchObject(forgotten);
  expect(world.runner.known(second).status).toBe('done');
  expect(() => world.runner.known(99)).toThrow(expect.objectContaining({ code: 'OP_UNKNOWN' }));
  await world.restart();
  expect(() => world.runner.known(id)).toThrow(expect.objectContaining(forgotten));
});
