import { expect, test } from 'vitest';
import { lacking } from './support/load.ts';
import { sweep } from './support/sweep.ts';

const SEEDS = 1_000;

test(`no rule is broken in ${SEEDS} seeds, part 2`, async () => {
  const counts = await sweep(1_001, SEEDS);
  expect(lacking(counts, SEEDS)).toEqual([]);
});
