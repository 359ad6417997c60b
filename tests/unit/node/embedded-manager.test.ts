import { beforeEach, expect, test, vi } from 'vitest';
import { EmbeddedManager } from '../../../src/node/embedded-manager.ts';
import type { ManagerHandle } from '../../../src/node/manager-handle.ts';

class Started {
  readonly broken: (why: unknown) => void;
  ended: 'no' | 'stopped' | 'abandoned' = 'no';

  constructor(broken: (why: unknown) => void) {
    this.broken = broken;
  }

  async stop(): Promise<void> {
    this.ended = 'stopped';
  }

  async abandon(): Promise<void> {
    this.ended = 'abandoned';
  }
}

let started: Started[];
let fail: Error | null;
let logged: string[];
let embedded: EmbeddedManager;

beforeEach(() => {
  [started, fail, logged] = [[], null, []];
  embedded = new EmbeddedManager({
    start: async (broken) => {
      if (fail) throw fail;
      const manager = new Started(broken);
      started.push(manager);
      return manager as unknown as ManagerHandle;
    },
    log: (_level, message, facts) => void logged.push(`${message} ${JSON.stringify(facts)}`),
  });
});

const ends = () => started.map((s) => s.ended);

test('one that cannot go on is let go of, and another begins', async () => {
  await embedded.start();
  started[0]?.broken('a defect');
  expect(embedded.handle).toBeNull();
  await vi.waitUntil(() => embedded.handle !== null, { timeout: 3_000 });
  expect(embedded.handle).toBe(started[1]);
  // What the first still says is of no account.
  started[0]?.broken('a defect');
  expect(embedded.handle).toBe(started[1]);
  await embedded.end();
  expect(ends()).toEqual(['abandoned', 'stopped']);
});

test('one that is broken before it has started is replaced as well', async () => {
  const start = embedded.start();
  started[0]?.broken('a defect');
  await start;
  expect(embedded.handle).toBeNull();
  await vi.waitUntil(() => embedded.handle !== null, { timeout: 3_000 });
  expect(ends()).toEqual(['abandoned', 'no']);
});

test('it is tried over and over where the next one cannot start', async () => {
  await embedded.start();
  fail = new Error('the store is busy');
  started[0]?.broken('a defect');
  await vi.waitUntil(() => logged.length >= 3, { timeout: 5_000 });
  expect(logged[0]).toContain('a defect');
  expect(logged[1]).toContain('the store is busy');
  fail = null;
  await vi.waitUntil(() => embedded.handle !== null, { timeout: 3_000 });
});

test('one that was given away is not replaced, and none is begun by a node that ends', async () => {
  await embedded.start();
  embedded.giveAway();
  started[0]?.broken('a defect');
  await embedded.start();
  const ended = embedded.end();
  started[1]?.broken('a defect');
  await ended;
  expect(ends()).toEqual(['no', 'stopped']);
  expect(started).toHaveLength(2);
});

test('a node that ends while the next one is awaited starts none', async () => {
  await embedded.start();
  started[0]?.broken('a defect');
  await embedded.end();
  expect(ends()).toEqual(['abandoned']);
  expect(embedded.handle).toBeNull();
});
