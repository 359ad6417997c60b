import fc from 'fast-check';
import { expect, it } from 'vitest';
import { requireSame } from '../../../../src/postgres/sql/compare-tables.ts';

const refusal = (what: string, why: string) =>
  expect.objectContaining({ code: 'TABLE_UNSUPPORTED', details: { what, why } });

it('what a replica would not have is named, and what it would have in its place', () => {
  expect(() => requireSame(['type int', 'UNIQUE (a)'], ['type int'])).toThrow(
    refusal('UNIQUE (a)', 'its replicas would not have it'),
  );
  expect(() => requireSame(['COLLATE a'], ['COLLATE b'])).toThrow(
    refusal('COLLATE a', 'its replicas would have: COLLATE b'),
  );
  expect(() => requireSame([], ['DEFAULT 1'])).toThrow(refusal('the table', 'its replicas would have: DEFAULT 1'));
});

it('only what is the same, as often as it is there, in any order, is taken', () => {
  const traits = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 6 });
  fc.assert(
    fc.property(traits, traits, (asked, got) => {
      const same = [...asked].sort().join() === [...got].sort().join();
      if (same) requireSame(asked, got);
      else expect(() => requireSame(asked, got)).toThrow();
    }),
  );
  expect(() => requireSame(['a', 'a'], ['a'])).toThrow();
});
