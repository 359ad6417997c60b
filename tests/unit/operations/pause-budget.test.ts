import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  afterMeeting,
  afterTry,
  FRESH,
  isTooOld,
  type Patience,
  pauseBudget,
} from '../../../src/operations/pause-budget.ts';

const of = (base: number, limit: number) => ({ 'move.max_pause': base, 'move.max_pause_limit': limit });
const tried = (tries: number): Patience => ({ tries, met: null });

test('the budget stays for six tries, then doubles with every second one, up to the limit', () => {
  const budgets = Array.from({ length: 16 }, (_, n) => pauseBudget(of(200, 2_000), tried(n)));
  expect(budgets).toEqual([200, 200, 200, 200, 200, 200, 400, 400, 800, 800, 1_600, 1_600, 2_000, 2_000, 2_000, 2_000]);
});

test('it never leaves its bounds, and never shrinks', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 20, max: 60_000 }),
      fc.integer({ min: 20, max: 60_000 }),
      fc.nat(10_000),
      (base, limit, n) => {
        const budget = pauseBudget(of(base, limit), tried(n));
        expect(budget).toBeGreaterThanOrEqual(base);
        expect(budget).toBeLessThanOrEqual(Math.max(base, limit));
        expect(pauseBudget(of(base, limit), tried(n + 1))).toBeGreaterThanOrEqual(budget);
        // Whatever is shorter than the limit is tried in the end.
        expect(isTooOld(of(base, limit), pauseBudget(of(base, limit), tried(10_000)), limit - 1)).toBe(false);
      },
    ),
  );
});

test('a transaction that is met again and again counts once, others count each', () => {
  const begun = 1_000_000;
  let patience = afterMeeting(FRESH, { processId: 7, ageMs: 500 }, begun + 500);
  for (let ageMs = 700; ageMs < 60_000; ageMs += 200)
    patience = afterMeeting(patience, { processId: 7, ageMs }, begun + ageMs + (ageMs % 290));
  expect(patience.tries).toBe(1);
  expect(afterMeeting(patience, { processId: 7, ageMs: 450 }, begun + 1_000).tries).toBe(2);
  expect(afterMeeting(patience, { processId: 8, ageMs: 90_000 }, begun + 90_000).tries).toBe(2);
  expect(afterTry(patience)).toEqual({ tries: 2, met: patience.met });
});
