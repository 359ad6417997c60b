import { afterAll, beforeAll, expect, test } from 'vitest';
import { OPERATION_KINDS } from '../../src/operations/registry.ts';
import { NOT_SELECTED, representativeCases } from '../crash/cases.ts';
import { play, titleOf } from '../crash/play.ts';
import { Stage } from '../crash/stage.ts';
import { played } from '../support/matrix.ts';

/** A selection of `npm run test:crash`, which plays every boundary of every kind with every victim. */
const CASES = representativeCases();
let stage: Stage;

beforeAll(async () => {
  stage = await Stage.open();
});

afterAll(async () => {
  await stage?.close();
});

test('every kind of operation is in the selection, or named as left out', () => {
  const there = new Set([...CASES.map((c) => c.boundary.kind), ...NOT_SELECTED]);
  expect([...there].sort()).toEqual([...OPERATION_KINDS.keys()].sort());
});

for (const one of played(CASES, (_, index) => index % 6 === 0)) {
  test(`kill -9 at ${titleOf(one)}`, async () => {
    const { status, acknowledged, wrong } = await play(stage, one);
    expect(wrong).toEqual([]);
    expect(acknowledged).toBeGreaterThan(0);
    expect(['done', 'cancelled', 'failed']).toContain(status);
  });
}
