import { expect, test } from 'vitest';
import { standingOf } from '../../src/core/starts.ts';

const after = ['a', 'b', 'c'];

test.each([
  ['the same start, asking once more', 'd', { id: 'd', after, ended: [] }, 'same'],
  ['one that comes after the known one, which it knows to have ended', 'c', { id: 'd', after, ended: ['c'] }, 'next'],
  ['one that comes after the known one, which may run', 'c', { id: 'd', after, ended: ['a'] }, 'waits'],
  ['one whose last starts were never taken', 'a', { id: 'd', after, ended: ['a', 'b', 'c'] }, 'next'],
  ['a copy of the store, when the node has been started since', 'e', { id: 'd', after, ended: after }, 'stale'],
  ['a store that says nothing of the past', 'e', { id: 'd', after: null, ended: [] }, 'waits'],
  ['a store that has seen no start', 'e', { id: 'd', after: [], ended: [] }, 'stale'],
])('%s', (_what, known, claim, standing) => {
  expect(standingOf(known, claim)).toBe(standing);
});
