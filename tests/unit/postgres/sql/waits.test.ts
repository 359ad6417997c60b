import { expect, it } from 'vitest';
import { cancelTransaction, readOpenSessions } from '../../../../src/postgres/sql/waits.ts';
import { ScriptedSql } from '../support/scripted-sql.ts';

it.each([
  ['tide n12 pid 4711', { node: 12, pid: 4_711 }],
  // Where PostgreSQL has cut the name off, or somebody has made it up.
  ['tide n12 pid ', null],
  ['tide n12 pid 4711x', null],
  ['tide n9999999999 pid 1', null],
  ['psql', null],
  [null, null],
])('a session that is called %s works for %o', async (via, wanted) => {
  const open = { pid: 1, xact: '1/2', ageMs: 200, active: true, waits: null };
  expect(await readOpenSessions(new ScriptedSql({ pg_stat_activity: [{ ...open, via }] }))).toEqual([
    { ...open, via: wanted },
  ]);
});

it('only what is in the same transaction still is cancelled', async () => {
  expect(await cancelTransaction(new ScriptedSql({ cancelled: [{ cancelled: true }] }), 1, '1/2')).toBe(true);
  expect(await cancelTransaction(new ScriptedSql(), 1, '1/2')).toBe(false);
});
