#!/usr/bin/env bash
# pgsql-parser 18.2.8 with pgsql-deparser 18.3.8: valid statements, parsed and printed again, run on
# PostgreSQL 18.4.
#
# Expected: the printed statement does what the first one did.
# Seen: parentheses that precedence needs are gone, and so are whole clauses (GROUP BY DISTINCT, TEMP, AND
# CHAIN, INCLUDE, the bounds of a foreign partition) and quotes (LISTEN). Two of these statements fail; the
# others run, to another end: other rows, no transaction, a table that stays, another channel. The parser is
# right: what it returns for the two texts differs.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres
npm install --prefix "$work" --silent --no-audit --no-fund pgsql-parser@18.2.8 pgsql-deparser@18.3.8 >/dev/null
javascript <<'JS'
import assert from 'node:assert/strict';
import pg from 'pg';
import { deparse, parse } from 'pgsql-parser';

const client = new pg.Client();
await client.connect();
console.log((await client.query('show server_version')).rows[0].server_version);
await client.query(`create extension postgres_fdw; create server s foreign data wrapper postgres_fdw;
  create table p (a int) partition by list (a)`);
const run = (text) => client.query({ text, rowMode: 'array' }).then((result) => result.rows, (error) => error.message);

/** What the statement answers, or where there is one the query after it. */
const answer = async (statement, { before = '', after }) => {
  await client.query(before);
  const own = await run(statement);
  const last = after && typeof own !== 'string' ? await run(after) : own;
  await client.query('rollback');
  await client.query('unlisten *; drop table if exists x');
  return last;
};
const cases = [
  { text: `SELECT (NOT a) IS NULL FROM (VALUES (NULL::boolean)) v (a)`, meant: [[true]], got: [[false]] },
  { text: `SELECT (a AND b) IS NULL FROM (VALUES (NULL::boolean, true)) v (a, b)`, meant: [[true]], got: [[false]] },
  { text: `SELECT a, count(*)::int FROM (VALUES (1)) v (a) GROUP BY DISTINCT ROLLUP (a), ROLLUP (a)`,
    meant: [[null, 1], [1, 1]], got: [[null, 1], [1, 1], [1, 1], [1, 1]] },
  { text: `SELECT 1 AS a INTO TEMP x`, after: `SELECT relpersistence FROM pg_class WHERE relname = 'x'`,
    meant: [['t']], got: [['p']] },
  { text: `COMMIT AND CHAIN`, before: `BEGIN`, after: `SAVEPOINT a`,
    meant: [], got: 'SAVEPOINT can only be used in transaction blocks' },
  { text: `LISTEN "Jobs"`, after: `SELECT pg_listening_channels()`, meant: [['Jobs']], got: [['jobs']] },
  { text: `CREATE TABLE x (a int, b int, UNIQUE (a) INCLUDE (b))`,
    after: `SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'x'::regclass`,
    meant: [['UNIQUE (a) INCLUDE (b)']], got: [['UNIQUE (a)']] },
  { text: `SELECT ('2020-01-01 00:00+00' AT TIME ZONE ('Asia/' || 'Tokyo'))::date::text`,
    meant: [['2020-01-01']], got: 'time zone "Asia/" not recognized' },
  { text: `CREATE FOREIGN TABLE x PARTITION OF p FOR VALUES IN (1) SERVER s`, before: `BEGIN`,
    meant: [], got: 'syntax error at or near "SERVER"' },
];
for (const { text, meant, got, ...around } of cases) {
  const printed = await deparse(await parse(text), { pretty: false });
  const seen = [await answer(text, around), await answer(printed, around)];
  console.log(`${text}\n  => ${printed}\n ${seen.map((rows) => JSON.stringify(rows)).join(' => ')}`);
  assert.deepEqual(seen, [meant, got]);
}
await client.end();
JS
