#!/usr/bin/env bash
# PostgreSQL 18.4, a partitioned table with foreign partitions (postgres_fdw), and an UPDATE of the partition
# key.
#
# Expected, from the manual (UPDATE): rows cannot be moved from a foreign partition to another one, so an
# error.
# Seen: UPDATE 1. The row gets its new key and stays where it was. A scan of the whole table still shows it;
# by its key, the old one or the new one, nothing finds, changes or deletes it any more.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres
javascript <<'JS'
import assert from 'node:assert/strict';
import pg from 'pg';

const client = new pg.Client();
await client.connect();
console.log((await client.query('show server_version')).rows[0].server_version);
await client.query(`create extension postgres_fdw; create schema far; create table far.t_1 (k int, v text); create table far.t_2 (k int, v text);
  create server here foreign data wrapper postgres_fdw options (host '127.0.0.1', port '${process.env.PGPORT}', dbname 'postgres');
  create user mapping for postgres server here options (user 'postgres', password_required 'false');
  create table t (k int, v text) partition by list (k);
  create foreign table t_1 partition of t for values in (1) server here options (schema_name 'far', table_name 't_1');
  create foreign table t_2 partition of t for values in (2) server here options (schema_name 'far', table_name 't_2');
  create table t_3 partition of t for values in (3);
  create table t_4 partition of t for values in (4)`);
await client.query(`insert into t values (1, 'foreign'), (3, 'local')`);

for (const [from, to] of [[3, 4], [1, 2]]) {
  assert.equal((await client.query('update t set k = $2 where k = $1', [from, to])).rowCount, 1);
  const count = async (where) => (await client.query(`select from t where ${where}`)).rowCount;
  const where = (await client.query('select tableoid::regclass::text as p from t where k + 0 = $1', [to])).rows[0].p;
  const found = { old: await count(`k = ${from}`), new: await count(`k = ${to}`), all: await count(`k + 0 = ${to}`) };
  const deleted = (await client.query('delete from t where k = $1', [to])).rowCount;
  console.log(`key ${from} to ${to}: UPDATE 1, the row is in ${where}; found`, found, `deleted by its key: ${deleted}`);
  const stays = from === 1;
  assert.deepEqual([where, found, deleted], stays
    ? ['t_1', { old: 0, new: 0, all: 1 }, 0]
    : ['t_4', { old: 0, new: 1, all: 1 }, 1]);
}
await client.end();
JS
