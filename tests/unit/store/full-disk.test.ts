import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { EventLog } from '../../../src/manager/event-log.ts';
import { LmdbStore } from '../../../src/store/lmdb-store.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { NO_MOUNT, SmallDisk } from '../../support/disk.ts';

const disks: SmallDisk[] = [];
afterEach(() => {
  for (const disk of disks.splice(0)) disk.unmount();
});

const put = (key: string, bytes: number) => ({ when: [], write: [{ put: key, value: 'x'.repeat(bytes) }] });

describe('the meta store on a full disk', () => {
  test('goes on in the room it has reserved, then refuses and believes nothing, then goes on again', async (context) => {
    const disk = SmallDisk.mount(20);
    if (disk === null) return context.skip(NO_MOUNT);
    disks.push(disk);
    const store = await LmdbStore.open(`${disk.path}/meta`);
    await store.txn(put('/before', 100));
    disk.fill();
    expect(disk.freeBytes).toBe(0);
    let written = 0;
    const refused = async () => {
      for (; written < 10_000; written++) {
        try {
          await store.txn(put(`/op/${written}`, 4_000));
        } catch (error) {
          return error;
        }
      }
      return null;
    };
    expect(await refused()).toMatchObject({ code: 'META_FULL', retry: 'later' });
    expect(written).toBeGreaterThan(1_000);
    expect(store.isFull).toBe(true);
    expect(await store.get(`/op/${written}`)).toBeNull();
    expect((await store.range('/op/')).length).toBe(written);
    // Several at once are refused each for itself.
    const several = await Promise.allSettled([1, 2, 3].map((n) => store.txn(put(`/n/${n}`, 100_000))));
    expect(several.map((s) => s.status)).toEqual(['rejected', 'rejected', 'rejected']);
    disk.clear();
    expect((await store.txn(put('/after', 100_000))).ok).toBe(true);
    expect(store.isFull).toBe(false);
    await store.close();
    const again = await LmdbStore.open(`${disk.path}/meta`);
    expect((await again.range('/')).length).toBe(written + 2);
    await again.close();
  });

  test('a write that is cut short finds no room either, wherever the disk ends', async (context) => {
    const disk = SmallDisk.mount(20);
    if (disk === null) return context.skip(NO_MOUNT);
    disks.push(disk);
    const store = await LmdbStore.open(`${disk.path}/meta`);
    const codes = new Set<unknown>();
    // From one page to more than the value: the disk ends before, within and after what is written.
    for (let pages = 1; pages <= 40; pages += 3) {
      disk.clear();
      await store.txn({ when: [], write: [{ delete: '/big' }] });
      disk.fill(pages * 4_096);
      const refused = await store.txn(put('/big', 12 << 20)).then(
        () => null,
        (error) => error,
      );
      expect(refused).toMatchObject({ code: 'META_FULL', retry: 'later' });
      codes.add((refused.cause as { code?: unknown }).code);
      expect(store.isFull).toBe(true);
      expect(await store.get('/big')).toBeNull();
    }
    // What LMDB says is EIO (5) here, not ENOSPC.
    expect(codes).toContain(5);
    disk.clear();
    expect((await store.txn(put('/after', 100_000))).ok).toBe(true);
    expect(store.isFull).toBe(false);
    await store.close();
  });
});

test('what a transaction put before it threw is undone', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'pgtide-lmdb-'));
  const store = await LmdbStore.open(dir);
  try {
    await store.txn(put('/kept', 10));
    const { revision } = await store.txn(put('/kept', 20));
    const broken = { put: '/second', value: 1n };
    const thrown = store.txn({ when: [], write: [{ put: '/first', value: 1 }, broken] });
    // Of the same batch: it is not undone with the other.
    const other = store.txn(put('/other', 10));
    await expect(thrown).rejects.toThrow(/BigInt/);
    expect(await store.get('/first')).toBeNull();
    expect((await other).revision).toBe(revision + 1);
    await store.close();
    const again = await LmdbStore.open(dir);
    expect((await again.range('/')).map((entry) => entry.key)).toEqual(['/kept', '/other']);
    await again.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('events are kept until there is room for them, and nobody fails for one', async () => {
  const store = new MemoryStore();
  const clock = { nowMs: () => 0, sleep: async () => {} };
  const events = await EventLog.open(store, clock);
  await events.add({ kind: 'a', text: 'before' });
  store.isFull = true;
  await events.add({ kind: 'b', text: 'meanwhile' });
  expect(events.after(0, 10).map((e) => e.kind)).toEqual(['a', 'b']);
  expect(await store.range('/event/')).toHaveLength(1);
  store.isFull = false;
  await events.flush();
  expect((await EventLog.open(store, clock)).after(0, 10).map((e) => e.kind)).toEqual(['a', 'b']);
});
