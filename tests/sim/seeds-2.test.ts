import { expect, test } from 'vitest';
import { lacking } from './support/load.ts';
import { sweep } from './support/sweep.ts';

const SEEDS = 400;

test(`no rule is broken in ${SEEDS} seeds, part 2`, async () => {
  const counts = await sweep(SEEDS + 1, SEEDS);
  expect(lacking(counts, SEEDS)).toEqual([]);
});
