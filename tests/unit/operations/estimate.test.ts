import { describe, expect, test } from 'vitest';
import { type Estimate, estimate } from '../../../src/operations/estimate.ts';

const MIB = 1024 * 1024;
/** What moves cost in truth, on a machine where `atOnce` of them run at a time. */
interface Truth {
  moveMs: number;
  byteMs: number;
  atOnce: number;
}

/** Carries moves out, oldest first, and estimates ten times in a move's time. */
function played(sizes: readonly number[], truth: Truth): { atMs: number; open: number; told: Estimate }[] {
  const took = (bytes: number) => truth.moveMs + truth.byteMs * bytes;
  const waiting = [...sizes];
  const finished: { bytes: number; ms: number }[] = [];
  let running: { bytes: number; sinceMs: number }[] = [];
  const told: { atMs: number; open: number; told: Estimate }[] = [];
  for (let atMs = 0; finished.length < sizes.length; atMs += truth.moveMs / 10) {
    const over = running.filter((m) => atMs - m.sinceMs >= took(m.bytes));
    finished.push(...over.map(({ bytes }) => ({ bytes, ms: took(bytes) })));
    running = running.filter((m) => !over.includes(m));
    while (running.length < truth.atOnce && waiting.length > 0)
      running.push({ bytes: waiting.shift() ?? 0, sinceMs: atMs });
    const seen = running.map(({ bytes, sinceMs }) => {
      const share = Math.min(1, (atMs - sinceMs) / took(bytes));
      return { bytes, bytesDone: bytes * share, ms: atMs - sinceMs };
    });
    const left = waiting.map((bytes) => ({ bytes }));
    const now = estimate({ finished, running: seen, left, elapsedMs: atMs });
    told.push({ atMs, open: running.length + waiting.length, told: now });
  }
  return told;
}

const equal = (count: number, bytes: number) => Array.from({ length: count }, () => bytes);
const slow = { moveMs: 4_000, byteMs: 1_000 / (20 * MIB), atOnce: 2 };
const CASES: [what: string, sizes: number[], truth: Truth][] = [
  ['empty tables', equal(40, 0), slow],
  ['small ones, which take no time to copy', equal(40, 8 * 1024), slow],
  ['large ones of one size', equal(40, 500 * MIB), slow],
  ['one large one, and then 23 without a row', [4_000 * MIB, ...equal(23, 0)], slow],
  ['23 without a row, and then a large one', [...equal(23, 0), 4_000 * MIB], slow],
  ['all sizes', Array.from({ length: 40 }, (_, i) => ((i * 37) % 40) * 10 * MIB), slow],
  ['a machine that is fast', equal(200, MIB), { moveMs: 200, byteMs: 1_000 / (500 * MIB), atOnce: 8 }],
  ['a machine that is very slow', equal(20, MIB), { moveMs: 60_000, byteMs: 1_000 / MIB, atOnce: 1 }],
];

describe.each(CASES)('%s', (_, sizes, truth) => {
  const looks = played(sizes, truth);
  const wholeMs = looks.at(-1)?.atMs ?? 0;

  test('is never told to be as good as done with more than a move to go', () => {
    for (const { open, told } of looks) {
      expect(told.percent).toBeGreaterThanOrEqual(0);
      expect(told.percent).toBeLessThanOrEqual(open > 1 ? 98 : 99);
    }
    const half = looks.filter((look) => look.open >= sizes.length / 2 && sizes.every((s) => s === sizes[0]));
    for (const { told } of half) expect(told.percent).toBeLessThanOrEqual(60);
  });

  test('tells time that is left while there is some, and about as much as there is once a quarter has passed', () => {
    for (const { atMs, told } of looks.filter((look) => look.open > 0)) {
      if (told.secondsLeft !== null) expect(told.secondsLeft).toBeGreaterThan(0);
      const leftMs = wholeMs - atMs;
      if (atMs < wholeMs / 4 || leftMs < wholeMs / 10 || told.secondsLeft === null) continue;
      if (sizes.every((s) => s === sizes[0])) {
        expect(told.secondsLeft * 1_000).toBeLessThanOrEqual(2 * leftMs + 1_000);
        expect(told.secondsLeft * 1_000).toBeGreaterThanOrEqual(leftMs / 2);
      }
    }
  });

  test('comes to the end by and by', () => {
    const percents = looks.map((look) => look.told.percent);
    const most = percents.map((_p, i) => Math.max(...percents.slice(0, i + 1)));
    // What was learned may take something back, but never much.
    const back = percents.map((percent, i) => (most[i] ?? 0) - percent);
    expect(Math.max(...back)).toBeLessThanOrEqual(3);
  });
});

test('without a move there is nothing to tell', () => {
  expect(estimate({ finished: [], running: [], left: [], elapsedMs: 0 })).toEqual({ percent: 0, secondsLeft: null });
});

test('the time is not told before anything tells it', () => {
  const left = equal(5, MIB).map((bytes) => ({ bytes }));
  expect(estimate({ finished: [], running: [], left, elapsedMs: 0 })).toEqual({ percent: 0, secondsLeft: null });
});

test('23 moves without bytes to go are not the last percent', () => {
  const finished = Array.from({ length: 20 }, () => ({ bytes: 100 * MIB, ms: 8_000 }));
  const told = estimate({ finished, running: [], left: equal(23, 0).map((bytes) => ({ bytes })), elapsedMs: 80_000 });
  expect(told.percent).toBeLessThan(80);
  expect(told.secondsLeft).toBeGreaterThan(20);
});

test('a move that has taken longer than any is not done yet', () => {
  const running = [{ bytes: 0, bytesDone: 0, ms: 3_600_000 }];
  const told = estimate({ finished: [{ bytes: 0, ms: 1_000 }], running, left: [], elapsedMs: 3_600_000 });
  expect(told.percent).toBeLessThan(99);
  expect(told.secondsLeft).toBeGreaterThan(0);
});
