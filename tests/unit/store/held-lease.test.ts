import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { HeldLease } from '../../../src/store/held-lease.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';

/** Long beside what a busy machine holds a process up. */
const OPTIONS = { ttlMs: 1_500, marginMs: 1_000 };

test('it holds for as long as it is renewed, and each renewal is told', async () => {
  const store = new MemoryStore();
  let renewals = 0;
  const lease = await HeldLease.grant(store, { ttlMs: 2_000, marginMs: 100, onRenew: () => renewals++ });
  const untilMs = performance.now() + 2_500;
  while (performance.now() < untilMs) {
    expect(lease.leftMs).toBeGreaterThan(0);
    expect(lease.leftMs).toBeLessThanOrEqual(1_900);
    await sleep(20);
  }
  expect(renewals).toBeGreaterThan(2);
  await lease.end();
  expect(lease.leftMs).toBe(0);
  expect(await store.keepAlive(lease.id)).toBe(false);
});

test('where the store fails it ends before the store ends it, by the margin', async () => {
  const store = new MemoryStore();
  const lease = await HeldLease.grant(store, OPTIONS);
  await store.txn({ when: [], write: [{ put: '/k', value: 1, lease: lease.id }] });
  const failing = store.keepAlive.bind(store);
  store.keepAlive = async () => {
    throw new Error('away');
  };
  await lease.lost;
  expect(lease.leftMs).toBe(0);
  expect(await store.get('/k')).not.toBeNull();
  const lostMs = performance.now();
  while ((await store.get('/k')) !== null) await sleep(5);
  expect(performance.now() - lostMs).toBeGreaterThan(50);
  store.keepAlive = failing;
});

test('an answer that hangs does not keep it alive', async () => {
  const store = new MemoryStore();
  const lease = await HeldLease.grant(store, OPTIONS);
  store.keepAlive = () => new Promise(() => {});
  expect(await lease.lost).toBe('it could not be renewed in time');
});

test('a lease that the store has forgotten is lost at the next renewal', async () => {
  const store = new MemoryStore();
  const lease = await HeldLease.grant(store, { ttlMs: 60_000, marginMs: 100 });
  await store.revoke(lease.id);
  expect(await lease.lost).toBe('it has run out in the store');
  expect(lease.leftMs).toBe(0);
});
