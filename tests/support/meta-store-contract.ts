import { expect, it } from 'vitest';
import type { MetaStore, SharedStore } from '../../src/store/meta-store.ts';

/** What every meta store does, whatever it is made of. */
export function metaStoreContract(make: () => Promise<MetaStore>): void {
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

  it('takes as many conditions and writes at once as a manager has', async () => {
    const store = await make();
    // Forty operations that are forgotten, and the seat.
    const keys = Array.from({ length: 41 }, (_, i) => `/op/${i}`);
    const { revision } = await store.txn({ when: [], write: keys.map((put) => ({ put, value: 1 })) });
    const gone = keys.slice(1);
    const when = keys.map((key) => ({ key, revision }));
    expect(await store.txn({ when, write: gone.map((key) => ({ delete: key })) })).toMatchObject({ ok: true });
    expect((await store.range('/op/')).map((e) => e.key)).toEqual(['/op/0']);
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

  it('takes thousands of writes as one', async () => {
    const store = await make();
    const write = Array.from({ length: 4_000 }, (_, i) => ({ put: `/many/${String(i).padStart(5, '0')}`, value: i }));
    const { ok, revision } = await store.txn({ when: [{ key: '/many/00000', revision: 0 }], write });
    expect(ok).toBe(true);
    const found = await store.range('/many/');
    expect(found.map((e) => e.value)).toEqual(write.map((w) => w.value));
    expect(new Set(found.map((e) => e.revision))).toEqual(new Set([revision]));
    const again = await store.txn({ when: [{ key: '/many/00000', revision: 0 }], write });
    expect(again.ok).toBe(false);
    const gone = await store.txn({ when: [], write: write.map(({ put }) => ({ delete: put })) });
    expect(gone.ok).toBe(true);
    expect(await store.range('/many/')).toEqual([]);
    await store.close();
  });

  it('keeps every kind of JSON value', async () => {
    const store = await make();
    const values = [null, true, 0, -1.5, '', 'ä €  \u0000 "', [], {}, { a: [null, { b: 'ü' }] }];
    await store.txn({ when: [], write: values.map((value, i) => ({ put: `/json/${i}`, value })) });
    expect((await store.range('/json/')).map((e) => e.value)).toEqual(values);
    await store.close();
  });
}

/** What a store does beside that which several processes share. `pass` lets time go by, for this store. */
export function sharedStoreContract(make: () => Promise<SharedStore>, pass: (ms: number) => Promise<void>): void {
  const put = (store: SharedStore, lease: string) =>
    store.txn({ when: [{ key: '/seat', revision: 0 }], write: [{ put: '/seat', value: 'mine', lease }] });

  it('forgets a key with its lease, and not before', async () => {
    const store = await make();
    const lease = await store.grant(2_000);
    expect((await put(store, lease)).ok).toBe(true);
    for (let beats = 0; beats < 4; beats++) {
      await pass(1_000);
      expect(await store.keepAlive(lease)).toBe(true);
      expect((await store.get('/seat'))?.value).toBe('mine');
    }
    await pass(5_000);
    expect(await store.get('/seat')).toBeNull();
    expect(await store.keepAlive(lease)).toBe(false);
    await store.close();
  });

  it('ends a lease when told to, at once, and once more without harm', async () => {
    const store = await make();
    const lease = await store.grant(60_000);
    await put(store, lease);
    await store.revoke(lease);
    expect(await store.get('/seat')).toBeNull();
    await store.revoke(lease);
    expect((await put(store, await store.grant(60_000))).ok).toBe(true);
    await store.close();
  });

  it('refuses whoever writes on a seat that is not theirs any more', async () => {
    const store = await make();
    const first = await store.grant(60_000);
    const seat = await put(store, first);
    await store.revoke(first);
    const second = await store.grant(60_000);
    const next = await put(store, second);
    expect(next.revision).toBeGreaterThan(seat.revision);
    const late = await store.txn({
      when: [{ key: '/seat', revision: seat.revision }],
      write: [{ put: '/x', value: 1 }],
    });
    expect(late.ok).toBe(false);
    const right = await store.txn({
      when: [{ key: '/seat', revision: next.revision }],
      write: [{ put: '/x', value: 2 }],
    });
    expect(right.ok).toBe(true);
    expect((await store.get('/x'))?.value).toBe(2);
    await store.revoke(second);
    await store.close();
  });
}
