import { beforeEach, expect, test } from 'vitest';
import { Measurements } from '../../../src/manager/measurements.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';

const NODES = [1, 2];
const EVERY_MS = 2_000;

let clock: ManualClock;
let asked: number[];
/** What each node answers; a promise that never ends is a server that never does. */
let bytes: Map<number, number>;
let locked: boolean;
let hangs: Set<number>;
let fails: Set<number>;
let warned: number;
let measurements: Measurements;

beforeEach(() => {
  clock = new ManualClock();
  asked = [];
  bytes = new Map(NODES.map((node) => [node, 100 * node]));
  locked = false;
  hangs = new Set();
  fails = new Set();
  warned = 0;
  measurements = new Measurements({
    clock,
    inspector: {
      sizes: async (node) => {
        asked.push(node);
        if (hangs.has(node)) await new Promise(() => {});
        if (fails.has(node)) throw new Error('gone');
        return [{ tid: 1, pid: 0, bytes: bytes.get(node) ?? 0, rows: 7, isExact: !locked }];
      },
      lag: async () => new Map([['tide_1_2', { replayLsn: '0/1', lagBytes: 3 }]]),
    },
    log: () => {
      warned += 1;
    },
  });
});

/** Rounds as the manager has them, for so long. */
async function during(ms: number): Promise<void> {
  for (let past = 0; past < ms; past += 500) {
    measurements.round(NODES);
    await clock.during(clock.sleep(500));
  }
}

const ageMs = (node: number) => {
  const size = measurements.sizeOf(node, '1/0');
  return size && clock.nowMs() - size.atMs;
};

test('there is no figure before the first answer', () => {
  expect(measurements.sizeOf(1, '1/0')).toBeNull();
  expect(measurements.lagOf(1, 'tide_1_2')).toBeNull();
  expect(measurements.measuredAt(1)).toBeNull();
});

test('every node is asked every two seconds, and figures have their time', async () => {
  await during(10_000);
  for (const node of NODES) expect(asked.filter((n) => n === node)).toHaveLength(10_000 / EVERY_MS);
  expect(measurements.sizeOf(2, '1/0')).toMatchObject({ bytes: 200, rows: 7 });
  expect(measurements.lagOf(1, 'tide_1_2')).toMatchObject({ lagBytes: 3 });
  expect(ageMs(2)).toBeLessThanOrEqual(EVERY_MS);
});

test('a node that does not answer is asked once, and holds up no other; its figures grow old', async () => {
  await during(4_000);
  hangs.add(1);
  asked = [];
  await during(20_000);
  expect(asked.filter((n) => n === 1)).toHaveLength(1);
  expect(asked.filter((n) => n === 2)).toHaveLength(20_000 / EVERY_MS);
  expect(measurements.sizeOf(1, '1/0')).toMatchObject({ bytes: 100 });
  expect(ageMs(1)).toBeGreaterThanOrEqual(20_000);
  expect(ageMs(2)).toBeLessThanOrEqual(EVERY_MS);
});

test('a look that fails keeps what was, is told in the log, and is made again', async () => {
  await during(4_000);
  fails.add(1);
  bytes.set(1, 5);
  await during(6_000);
  expect(warned).toBe(6_000 / EVERY_MS);
  expect(measurements.sizeOf(1, '1/0')).toMatchObject({ bytes: 100 });
  fails.clear();
  await during(4_000);
  expect(measurements.sizeOf(1, '1/0')).toMatchObject({ bytes: 5 });
});

test('what is locked keeps its last figure with its age; without one the estimate is better than none', async () => {
  locked = true;
  await during(2_000);
  expect(measurements.sizeOf(1, '1/0')).toMatchObject({ bytes: 100 });
  locked = false;
  bytes.set(1, 50);
  await during(2_000);
  locked = true;
  bytes.set(1, 9);
  await during(10_000);
  expect(measurements.sizeOf(1, '1/0')).toMatchObject({ bytes: 50 });
  expect(ageMs(1)).toBeGreaterThanOrEqual(10_000);
  expect(clock.nowMs() - (measurements.measuredAt(1) ?? 0)).toBeLessThanOrEqual(EVERY_MS);
});

test('a plan gets figures from after it was asked for, and waits for a server that says nothing only so long', async () => {
  const begunMs = clock.nowMs();
  await clock.during(measurements.anew(NODES, 1_000));
  expect(measurements.sizeOf(2, '1/0')).toMatchObject({ bytes: 200 });
  expect(clock.nowMs()).toBe(begunMs);
  bytes.set(2, 1);
  hangs.add(1);
  await clock.during(measurements.anew(NODES, 1_000));
  expect(clock.nowMs()).toBe(begunMs + 1_000);
  expect(measurements.sizeOf(2, '1/0')).toMatchObject({ bytes: 1 });
});
