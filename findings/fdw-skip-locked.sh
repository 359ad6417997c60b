#!/usr/bin/env bash
# PostgreSQL 18.4, SELECT … FOR UPDATE SKIP LOCKED and NOWAIT on a foreign table (postgres_fdw).
#
# Expected: they reach the other server, or are refused.
# Seen: both are dropped without a word; FOR UPDATE alone is sent, and the statement waits for the lock: a job queue on a foreign
# partition hands out one job at a time. lock_timeout of the session does not end that wait either.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres
javascript <<'JS'
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const connect = async () => {
  const client = new pg.Client();
  await client.connect();
  return client;
};
const [holder, client] = [await connect(), await connect()];
console.log((await client.query('show server_version')).rows[0].server_version);
await client.query(`create extension postgres_fdw; create schema far; create table far.job (id int primary key);
  insert into far.job values (1), (2);
  create server here foreign data wrapper postgres_fdw options (host '127.0.0.1', port '${process.env.PGPORT}', dbname 'postgres');
  create user mapping for postgres server here options (user 'postgres', password_required 'false');
  create foreign table job (id int) server here options (schema_name 'far', table_name 'job')`);
await holder.query('begin; select from far.job where id = 1 for update');
assert.deepEqual((await client.query('select id from far.job for update skip locked')).rows, [{ id: 2 }]);

const { rows: plan } = await client.query('explain (verbose, costs off) select id from job for update skip locked');
const sent = plan.map((row) => row['QUERY PLAN']).find((line) => line.includes('Remote SQL'));
console.log(sent.trim());
assert.match(sent, /FOR UPDATE$/);
await client.query(`set lock_timeout = '500ms'`);
for (const clause of ['skip locked', 'nowait']) {
  const answer = client.query(`select id from job for update ${clause}`).then((result) => result.rows, (error) => error.code);
  assert.equal(await Promise.race([answer, sleep(3_000, 'waits')]), 'waits');
  console.log(`${clause}: still waits after 3 s, with lock_timeout 500 ms`);
  await holder.query('rollback');
  assert.deepEqual(await answer, [{ id: 1 }, { id: 2 }]);
  await holder.query('begin; select from far.job where id = 1 for update');
}
await holder.end();
await client.end();
JS
