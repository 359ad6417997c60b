import { expect, test } from 'vitest';
import { awaitMarker } from '../../../../src/postgres/sql/marker.ts';
import { ScriptedSql } from '../support/scripted-sql.ts';

test('a server is asked whether a marker has come, over and over, and never to wait for it', async () => {
  let asked = 0;
  const sql = new ScriptedSql({ await_marker: () => [{ arrived: ++asked === 4 }] });
  expect(await awaitMarker(sql, 1, '7', 60_000)).toBe(true);
  expect(sql.asked).toEqual(Array.from({ length: 4 }, () => 'select tide.await_marker($1, $2, 0) as arrived'));
});

test('whoever waits for a marker gives up by its own time', async () => {
  const sql = new ScriptedSql({ await_marker: [{ arrived: false }] });
  expect(await awaitMarker(sql, 1, '7', 30)).toBe(false);
  expect(new Set(sql.asked)).toEqual(new Set(['select tide.await_marker($1, $2, 0) as arrived']));
});
