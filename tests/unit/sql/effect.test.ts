import { beforeAll, expect, test } from 'vitest';
import { effectOf } from '../../../src/sql/effect.ts';
import { loadParser } from '../../../src/sql/parser.ts';

beforeAll(loadParser);

const names = {
  isDistributed: (schema: string | null, name: string) => name === 'acct' && (schema === null || schema === 'public'),
  isUsers: (name: string) => name === 'round',
};

test.each([
  '',
  'BEGIN',
  'begin isolation level serializable read only',
  'COMMIT',
  'SAVEPOINT a',
  'SELECT 1',
  'SELECT * FROM acct WHERE id = 1 FOR UPDATE OF acct',
  'SELECT a.n FROM public.acct AS a JOIN pg_catalog.pg_class c ON c.oid = a.id FOR UPDATE OF a',
  "SELECT relname FROM pg_class WHERE relname LIKE 'a%'",
  'SELECT table_name FROM information_schema.tables',
  'WITH these AS (SELECT id FROM acct) SELECT count(*) FROM these',
  'WITH gone AS (DELETE FROM acct RETURNING *) INSERT INTO acct SELECT * FROM gone',
  'INSERT INTO acct SELECT i, 0 FROM generate_series(1, 1000) i ON CONFLICT DO NOTHING',
  'UPDATE acct SET n = n + 1 WHERE id IN (SELECT id FROM acct ORDER BY id LIMIT 3)',
  'MERGE INTO acct a USING acct b ON a.id = b.id WHEN MATCHED THEN DO NOTHING',
  'TRUNCATE acct',
  'EXPLAIN ANALYZE SELECT lower(n::text) FROM acct',
  'SHOW search_path',
  'BEGIN; UPDATE acct SET n = 1; COMMIT',
  "CALL tide.refuse('42601', 'a', 'b', 'c')",
  'CALL tide.done()',
  'SELECT id FROM tide.nodes',
])('%j leaves nothing', (text) => {
  expect(effectOf(text, names)).toBe('nothing');
});

test.each([
  "SET TimeZone = 'UTC'",
  'SET LOCAL statement_timeout = 5',
  'RESET ALL',
  'SET ROLE reader',
  'SET SESSION AUTHORIZATION other',
  'SET TRANSACTION READ ONLY',
  'BEGIN; SET lock_timeout = 1; COMMIT',
])('%j changes settings', (text) => {
  expect(effectOf(text, names)).toBe('settings');
});

test.each([
  'CREATE TEMPORARY TABLE acct (id int)',
  'SELECT 1 INTO TEMPORARY t',
  'DISCARD ALL',
  'DEALLOCATE ALL',
  'PREPARE a AS SELECT 1',
  'EXECUTE a',
  'DECLARE c CURSOR FOR SELECT 1',
  'LISTEN a',
  'DO $$ BEGIN END $$',
  'CALL p()',
  "CALL tide.refuse('a', 'b', 'c', set_config('search_path', 'x', false))",
  'CALL lower.done()',
  "SELECT set_config('role', 'reader', false)",
  'SELECT somebodys(1)',
  'SELECT public.lower(n) FROM acct',
  'SELECT round(1.5, 2)',
  // Of one node: it may have triggers, or be a view.
  'INSERT INTO ours VALUES (1)',
  'SELECT * FROM other.acct',
  'UPDATE acct SET n = (SELECT max(n) FROM ours)',
  "PREPARE TRANSACTION 'a'",
  'COPY acct FROM STDIN',
  'LOCK TABLE acct',
  'SELECT FROM',
  `SELECT ${'not '.repeat(990)} true`,
  `SELECT ${'f('.repeat(5_000)}`,
  'SET a = 1; CREATE TEMP TABLE t ()',
])('%j leaves what nobody knows', (text) => {
  expect(effectOf(text, names)).toBe('unknown');
});
