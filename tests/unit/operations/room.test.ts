import { describe, expect, test } from 'vitest';
import { faultsOf, placementOf } from '../../fakes/cleanliness.ts';
import { tableRecord } from '../../fakes/records.ts';
import { World } from '../../fakes/world.ts';

/** Copies that the disks at their ends cannot afford, and a journal that cannot be written. */

const REF = { tid: 1, pid: 0 };
const GIB = 2 ** 30;
const twoReplicas = () => World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, [[1, 2]])]);
const waits = (world: World) => world.runner.live(world.root.id)?.waitsFor ?? null;
const copies = (world: World) => world.cluster.at(1).copySlots.size > 0;

/** Node 4 had room when the operation began, and has none when the copy is to. */
async function beginsThenFull(world: World, freeBytes: number): Promise<void> {
  const { cluster } = world;
  const query = { user: 'anna', query: 'UPDATE t', state: 'active', application: 'psql' };
  cluster.at(1).writer = { processId: 1, ageMs: 2_000, ...query };
  await world.begin('add-replica', { ...REF, to: 4 });
  await world.until(() => waits(world)?.kind === 'slot');
  world.freeBytes.set(4, freeBytes);
  cluster.at(1).writer = null;
}

describe('a target without room', () => {
  test('is waited for before the copy begins, without a slot that would keep WAL', async () => {
    const world = await twoReplicas();
    await beginsThenFull(world, 4.96e10);
    await world.until(() => waits(world)?.kind === 'disk');
    expect(waits(world)).toMatchObject({ node: 4, text: 'node 4 has 5 % of its disk left: the copy waits for room' });
    expect(copies(world)).toBe(false);
    world.freeBytes.set(4, 6e10);
    expect((await world.finish()).status).toBe('done');
    expect(faultsOf(world)).toEqual([]);
  });

  test('is not waited for longer than ten minutes', async () => {
    const world = await twoReplicas();
    const before = placementOf(world);
    await beginsThenFull(world, 1e10);
    const record = await world.finish();
    expect(record).toMatchObject({ status: 'failed', error: { code: 'DISK_FULL' } });
    expect(record.error?.message).toBe('node 4 has 1 % of its disk left: the copy to it was given up');
    const tookMs = (record.endedMs ?? 0) - (record.startedMs ?? 0);
    expect(tookMs).toBeGreaterThan(600_000);
    expect(tookMs).toBeLessThan(610_000);
    expect(placementOf(world)).toEqual(before);
    expect(faultsOf(world)).toEqual([]);
  });

  test.each([1e10, 0])('ends a copy that runs: %d bytes are free', async (freeBytes) => {
    const world = await twoReplicas();
    await world.begin('move-replica', { ...REF, from: 1, to: 4 });
    await world.until(() => copies(world));
    world.freeBytes.set(4, freeBytes);
    expect(await world.finish()).toMatchObject({ status: 'failed', error: { code: 'DISK_FULL' } });
    expect(world.cluster.at(4).replicas.size).toBe(0);
    expect(faultsOf(world)).toEqual([]);
  });
});

describe('a source that has to keep too much WAL', () => {
  test('ends the copy at the cap of the setting', async () => {
    const world = await twoReplicas();
    await world.catalog.commit([{ kind: 'setting-changed', key: 'move.max_retained_wal', value: GIB }]);
    await world.begin('add-replica', { ...REF, to: 4 });
    await world.until(() => copies(world));
    world.cluster.at(1).keptBytes = GIB + 1;
    const { status, error } = await world.finish();
    expect(status).toBe('failed');
    expect(error).toMatchObject({
      code: 'WAL_RETAINED',
      message:
        'node 1 had to keep 1.00 GiB of WAL for the copy to node 4, more than the 1.00 GiB that a move may cost it ' +
        '(move.max_retained_wal): the copy was given up',
    });
    expect(faultsOf(world)).toEqual([]);
  });

  test('ends it earlier on a full disk, and not at all for what is not worth it', async () => {
    for (const [keptBytes, status] of [
      [0.9 * GIB, 'done'],
      [1.1 * GIB, 'failed'],
    ] as const) {
      const world = await twoReplicas();
      await world.catalog.commit([{ kind: 'setting-changed', key: 'move.max_retained_wal', value: 100 * GIB }]);
      world.freeBytes.set(1, 4e10);
      await world.begin('add-replica', { ...REF, to: 4 });
      await world.until(() => copies(world));
      world.cluster.at(1).keptBytes = keptBytes;
      expect((await world.finish()).status).toBe(status);
      if (status === 'failed') expect(world.root.error?.message).toContain('and has 4 % of its disk left');
    }
  });

  test('is freed though the target does not answer', async () => {
    const world = await twoReplicas();
    await world.begin('add-replica', { ...REF, to: 4 });
    await world.until(() => copies(world) && world.rootData.copySlot !== undefined);
    world.cluster.at(4).alive = false;
    world.cluster.at(1).keptBytes = 9 * GIB;
    await world.until(() => !copies(world));
    expect(world.root).toMatchObject({ status: 'undoing', error: { code: 'WAL_RETAINED' } });
    world.cluster.at(4).alive = true;
    expect((await world.finish()).status).toBe('failed');
    expect(faultsOf(world)).toEqual([]);
  });
});

test('a copy whose stream somebody has ended is taken back, not begun again into its own rows', async () => {
  const world = await twoReplicas();
  await world.begin('add-replica', { ...REF, to: 4 });
  await world.until(() => copies(world) && world.rootData.copySlot !== undefined);
  await world.plane().streams.disconnect(1, 4);
  expect(await world.finish()).toMatchObject({ status: 'failed', error: { code: 'STREAM_LOST' } });
  expect(faultsOf(world)).toEqual([]);
});

test('a replica whose stream is ended after it had caught up does not count', async () => {
  const world = await twoReplicas();
  await world.begin('add-replica', { ...REF, to: 4 });
  await world.until(() => world.changes().includes('n4: publish t1_p0 to n2'));
  await world.plane().streams.disconnect(1, 4);
  expect(await world.finish()).toMatchObject({ status: 'failed', error: { code: 'STREAM_LOST' } });
  expect(faultsOf(world)).toEqual([]);
});

test('a stream that has lost rows is not made anew under a replica that counts', async () => {
  const other = tableRecord(2, 'branch', 2, [[1, 4]]);
  const world = await World.settled([1, 2, 3, 4], [tableRecord(1, 'acct', 2, [[1, 2]]), other]);
  world.cluster.at(1).slots.delete(4);
  await world.begin('add-replica', { ...REF, to: 4 });
  await world.until(() => waits(world)?.kind === 'node');
  expect(waits(world)?.text).toBe('the stream from node 1 to node 4 is broken, and what it fed is given up first');
  expect(world.cluster.at(1).slots.has(4)).toBe(false);
  await world.catalog.commit([{ kind: 'replica-changed', tid: 2, pid: 0, node: 4, state: 'stale' }]);
  expect((await world.finish()).status).toBe('done');
  expect(world.cluster.at(1).slots.has(4)).toBe(true);
});

/** The store has no room from the record of this number on, the first one being 0. */
function isFullAtRecord(world: World, at: number): void {
  const { store } = world;
  const txn = store.txn.bind(store);
  let records = 0;
  store.txn = async (request) => {
    const isRecord = request.write.some((w) => 'put' in w && w.put.startsWith('/op/'));
    if (isRecord && records++ === at) store.isFull = true;
    return txn(request);
  };
}

describe('a meta store without room', () => {
  test.each(['add-replica', 'move-replica'])(
    '%s waits at every record, believes nothing that is not there, and goes on',
    async (kind) => {
      const rehearsal = await twoReplicas();
      await rehearsal.run(kind, { ...REF, from: 1, to: 4 });
      const records = rehearsal.changes().filter((c) => c.startsWith('op ')).length;
      expect(records).toBeGreaterThan(5);
      for (let at = 1; at < records; at++) {
        const world = await twoReplicas();
        isFullAtRecord(world, at);
        await world.begin(kind, { ...REF, from: 1, to: 4 });
        await world.until(() => waits(world)?.kind === 'disk');
        expect(waits(world)?.text).toMatch(/^the meta store has no room/);
        expect((await world.journal()).get(1)).toEqual(world.root);
        world.store.isFull = false;
        expect((await world.finish()).status).toBe('done');
        expect(faultsOf(world)).toEqual([]);
      }
    },
  );

  test('it can be cancelled when there is room again, and a failure is journaled then', async () => {
    const world = await twoReplicas();
    await world.begin('add-replica', { ...REF, to: 4 });
    await world.until(() => copies(world));
    world.store.isFull = true;
    world.freeBytes.set(4, 1e9);
    await world.until(() => waits(world)?.kind === 'disk');
    await expect(world.runner.cancel(world.root.id)).rejects.toMatchObject({ code: 'META_FULL' });
    world.store.isFull = false;
    expect(await world.finish()).toMatchObject({ status: 'failed', error: { code: 'DISK_FULL' } });
    expect(faultsOf(world)).toEqual([]);
  });
});
