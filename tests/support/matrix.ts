import { test } from 'vitest';

/**
 * `npm test` plays a selection of what takes minutes for each of many cases; `npm run test:matrix` plays all
 * of them.
 */
const isWhole = process.env.PGTIDE_MATRIX === 'all';

/** All cases, or those of `npm test`. */
export const played = <T>(all: readonly T[], inShort: (one: T, index: number) => boolean): T[] =>
  all.filter((one, index) => isWhole || inShort(one, index));

/** A test that `npm test` leaves out. */
export function matrixTest(title: string, body: () => Promise<void>): void {
  if (isWhole) test(title, body);
}
