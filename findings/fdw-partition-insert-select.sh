#!/usr/bin/env bash
# PostgreSQL 18.4, a partitioned table with two foreign partitions on one server (postgres_fdw), copied into itself.
#
# Expected: INSERT INTO t SELECT … FROM t inserts the rows that were there when the statement began, as with local partitions.
# Seen: more. Both partitions are read and written through one remote session, and the cursor on the second is opened when the first is through:
# it sees, and inserts once more, what the same statement has put into the second by then. No error, no warning.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres
javascript <<'JS'
import assert from 'node:assert/strict';
import pg from 'pg';

const client = new pg.Client();
await client.connect();
const one = async (text) => Object.values((await client.query(text)).rows[0])[0];
console.log(await one('show server_version'));
await client.query(`create extension postgres_fdw; create schema far;
  create server here foreign data wrapper postgres_fdw options (host '127.0.0.1', port '${process.env.PGPORT}', dbname 'postgres');
  create user mapping for postgres server here options (user 'postgres', password_required 'false');
  create table plain (id int) partition by hash (id);
  create table plain_0 partition of plain for values with (modulus 2, remainder 0);
  create table plain_1 partition of plain for values with (modulus 2, remainder 1);
  create table far.t_0 (id int);
  create table far.t_1 (id int);
  create table t (id int) partition by hash (id);
  create foreign table t_0 partition of t for values with (modulus 2, remainder 0) server here options (schema_name 'far', table_name 't_0');
  create foreign table t_1 partition of t for values with (modulus 2, remainder 1) server here options (schema_name 'far', table_name 't_1')`);
for (const table of ['plain', 't']) await client.query(`insert into ${table} select generate_series(1, 1000)`);

for (const table of ['plain', 't']) {
  const { rowCount } = await client.query(`insert into ${table} select id + 1000000 from ${table}`);
  console.log(`${table === 't' ? 'foreign' : 'local'} partitions: 1000 rows, and INSERT … SELECT from the same table inserts ${rowCount}`);
  if (table === 'plain') assert.equal(rowCount, 1_000);
  else assert.ok(rowCount > 1_000, 'as with local partitions: no finding any more');
}
await client.end();
JS
