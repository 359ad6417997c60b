import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test, vi } from 'vitest';
import { tideError } from '../../../src/core/errors.ts';
import type { ManagerHandle, SeatGrant } from '../../../src/node/manager-handle.ts';
import { Seat } from '../../../src/node/seat.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { Line } from './support/line.ts';

/** One node's candidate with a manager that only counts. */
class Candidate {
  readonly line: Line;
  readonly seat: Seat;
  grants: SeatGrant[] = [];
  stopped = 0;
  abandoned = 0;
  fail: Error | null = null;

  constructor(store: MemoryStore, node: number) {
    this.line = new Line(store);
    const manager = {
      stop: async () => void this.stopped++,
      abandon: async () => void this.abandoned++,
    } as unknown as ManagerHandle;
    this.seat = new Seat({
      store: this.line,
      node,
      own: { id: `${node}/2`, mayHave: (id) => [`${node}/1`, `${node}/2`].includes(id) },
      address: `n${node}:1`,
      start: async (grant) => {
        if (this.fail) throw this.fail;
        this.grants.push(grant);
        return manager;
      },
      log: () => {},
    });
    this.seat.start();
    candidates.push(this);
  }

  get manages(): boolean {
    return this.seat.manager !== null;
  }
}

let candidates: Candidate[] = [];
afterEach(async () => {
  await Promise.all(candidates.map((c) => c.seat.end()));
  candidates = [];
});

const until = (what: () => boolean, timeout = 10_000) => vi.waitUntil(what, { timeout, interval: 10 });
const managing = () => candidates.filter((c) => c.manages);

test('one of three manages, the others know where; when it resigns another follows at once, under a higher term', async () => {
  const store = new MemoryStore();
  for (const node of [1, 2, 3]) new Candidate(store, node);
  await until(() => managing().length === 1);
  const [first] = managing();
  await until(() => candidates.every((c) => c.seat.leader !== null));
  expect(new Set(candidates.map((c) => c.seat.leader)).size).toBe(1);
  const beganMs = performance.now();
  first?.seat.resign();
  await until(() => managing().length === 1 && managing()[0] !== first);
  expect(performance.now() - beganMs).toBeLessThan(1_500);
  expect(first?.stopped).toBe(1);
  expect(managing()[0]?.grants[0]?.term).toBeGreaterThan(first?.grants[0]?.term ?? 0);
  // It takes no further part, and still knows where the manager is.
  await until(() => first?.seat.leader === managing()[0]?.seat.leader);
  expect(first?.manages).toBe(false);
});

test('a manager that is cut off lets go before anybody else can be elected, and writes nothing afterwards', async () => {
  const store = new MemoryStore();
  const cut = new Candidate(store, 1);
  await until(() => cut.manages);
  const other = new Candidate(store, 2);
  const grant = cut.grants[0];
  cut.line.cut = true;
  let both = 0;
  const watch = setInterval(() => {
    if (cut.manages && other.manages) both += 1;
  }, 1);
  await until(() => other.manages);
  clearInterval(watch);
  expect(both).toBe(0);
  await until(() => cut.abandoned === 1);
  expect(cut.stopped).toBe(0);
  expect(grant?.leftMs()).toBe(0);
  cut.line.cut = false;
  const late = grant?.store.txn({ when: [], write: [{ put: '/x', value: 'late' }] });
  await expect(late).rejects.toMatchObject({ code: 'MANAGER_LOST' });
  expect(await store.get('/x')).toBeNull();
  await other.grants[0]?.store.txn({ when: [], write: [{ put: '/x', value: 'right' }] });
  expect((await store.get('/x'))?.value).toBe('right');
});

test('a manager whose seat was taken away is told by its first write', async () => {
  const store = new MemoryStore();
  const candidate = new Candidate(store, 1);
  await until(() => candidate.manages);
  const seat = (await store.range('/manager'))[0];
  await store.txn({ when: [], write: [{ delete: seat?.key ?? '' }] });
  const write = candidate.grants[0]?.store.txn({ when: [], write: [{ put: '/x', value: 1 }] });
  await expect(write).rejects.toMatchObject({ code: 'MANAGER_LOST' });
  await until(() => candidate.abandoned === 1);
  // And may be elected again.
  await until(() => candidate.manages);
  expect(candidate.grants).toHaveLength(2);
});

test('a manager that cannot go on is let go of, writes nothing more, and the seat is for whoever takes it', async () => {
  const store = new MemoryStore();
  const broken = new Candidate(store, 1);
  await until(() => broken.manages);
  const [grant] = broken.grants;
  grant?.giveUp('broken invariant');
  await until(() => broken.abandoned === 1);
  const late = grant?.store.txn({ when: [], write: [{ put: '/x', value: 'late' }] });
  await expect(late).rejects.toMatchObject({ code: 'MANAGER_LOST' });
  await until(() => broken.manages);
  expect(broken.grants[1]?.term).toBeGreaterThan(grant?.term ?? 0);
});

test('a process that starts again does not wait for the lease of the one before', async () => {
  const store = new MemoryStore();
  const before = await store.grant(60_000);
  const value = { node: 1, address: 'n1:1', lease: before, start: '1/1' };
  await store.txn({ when: [], write: [{ put: '/manager', value, lease: before }] });
  const stranger = new Candidate(store, 2);
  await until(() => stranger.seat.leader === 'n1:1');
  const again = new Candidate(store, 1);
  await until(() => again.manages || stranger.manages, 2_000);
  expect(managing()).toHaveLength(1);
});

test('a manager that cannot start gives the seat back', async () => {
  const store = new MemoryStore();
  const broken = new Candidate(store, 1);
  broken.fail = new Error('no manager today');
  await sleep(600);
  const other = new Candidate(store, 2);
  await until(() => other.manages);
  expect(broken.manages).toBe(false);
});

test('a program that is older than the store gives the seat back, tries no more, and says so', async () => {
  const store = new MemoryStore();
  const older = new Candidate(store, 1);
  older.fail = tideError('STORE_TOO_NEW', { path: 'etcd', found: 3, known: 2 });
  await until(() => older.seat.noLeader().message.includes('written by a newer pgtide (format 3'));
  const newer = new Candidate(store, 2);
  await until(() => newer.manages);
  newer.seat.resign();
  await until(() => newer.stopped === 1);
  older.fail = null;
  await sleep(600);
  expect(older.manages).toBe(false);
});

test('while the store is away it is said why there is no manager', async () => {
  const candidate = new Candidate(new MemoryStore(), 1);
  candidate.line.cut = true;
  await until(() => candidate.seat.noLeader().message.includes('etcd does not answer at e: cut'));
  expect(candidate.seat.leader).toBeNull();
});

test.each([
  ['of a start that may be alive, on a copy of the store', { start: '1/copy' }],
  ['of a program that does not say which start it is', {}],
])('a seat %s is left until its lease has run out', async (_whose, said) => {
  const store = new MemoryStore();
  const other = await store.grant(1_500);
  const value = { node: 1, address: 'n1:1', lease: other, ...said };
  await store.txn({ when: [], write: [{ put: '/manager', value, lease: other }] });
  const beganMs = performance.now();
  const again = new Candidate(store, 1);
  await until(() => again.manages);
  expect(performance.now() - beganMs).toBeGreaterThan(1_400);
});
