#!/usr/bin/env bash
# PostgreSQL 18.4, xmin as a row's version ("UPDATE … WHERE id = … AND xmin = …", as object mappers do), once
# the row is in a foreign partition (postgres_fdw).
#
# Expected: the version changes with every write, as in a local partition, or the column is refused.
# Seen: xmin is 0 for each row and for ever, and the condition holds for ever: of two who have read the same
# row, both update it, and the first one's change is gone. ctid, which is fetched, would have told them apart.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres
javascript <<'JS'
import assert from 'node:assert/strict';
import pg from 'pg';

const client = new pg.Client();
await client.connect();
console.log((await client.query('show server_version')).rows[0].server_version);
await client.query(`create extension postgres_fdw; create schema far; create table far.t_1 (id int, n int);
  create server here foreign data wrapper postgres_fdw options (host '127.0.0.1', port '${process.env.PGPORT}', dbname 'postgres');
  create user mapping for postgres server here options (user 'postgres', password_required 'false');
  create table t (id int, n int) partition by list (id);
  create foreign table t_1 partition of t for values in (1) server here options (schema_name 'far', table_name 't_1');
  create table t_2 partition of t for values in (2)`);
await client.query('insert into t values (1, 100), (2, 100)');

const read = async (id) => (await client.query('select n, xmin::text, ctid::text from t where id = $1', [id])).rows[0];
const add = async (id, seen, plus) =>
  (await client.query('update t set n = $1 where id = $2 and xmin = $3::xid', [seen.n + plus, id, seen.xmin])).rowCount;
for (const [place, id] of [['local', 2], ['foreign', 1]]) {
  const seen = await read(id);
  const updated = [await add(id, seen, 5), await add(id, seen, 7)];
  const after = await read(id);
  console.log(`${place} partition: xmin ${seen.xmin}, two updates from it: ${updated}; then`, after);
  assert.notEqual(after.ctid, seen.ctid);
  if (place === 'local') assert.deepEqual([updated, after.n, after.xmin === seen.xmin], [[1, 0], 105, false]);
  else assert.deepEqual([updated, after.n, seen.xmin, after.xmin], [[1, 1], 107, '0', '0']);
}
await client.end();
JS
