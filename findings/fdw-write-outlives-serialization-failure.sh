#!/usr/bin/env bash
# PostgreSQL 18.4, a SERIALIZABLE transaction that also wrote to a foreign table (postgres_fdw), refused at
# COMMIT.
#
# Expected, from the manual (postgres_fdw, "Transaction Management"): the remote transaction is aborted when
# the local one is. COMMIT says 40001, so nothing was written, and the transaction is to be run again.
# Seen: the remote half is committed first, and only then does the local server look for serialization
# failures. The client that runs it again, as it is told to, has written twice on the other server and once on
# its own.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres
javascript <<'JS'
import assert from 'node:assert/strict';
import pg from 'pg';

const connect = async () => {
  const client = new pg.Client();
  await client.connect();
  return client;
};
const [first, second] = [await connect(), await connect()];
const one = async (text) => Object.values((await first.query(text)).rows[0])[0];
console.log(await one('show server_version'));
await first.query(`create extension postgres_fdw; create schema far; create table far.log (id int); create table near (id int);
  create server here foreign data wrapper postgres_fdw options (host '127.0.0.1', port '${process.env.PGPORT}', dbname 'postgres');
  create user mapping for postgres server here options (user 'postgres', password_required 'false');
  create foreign table log (id int) server here options (schema_name 'far', table_name 'log')`);

const work = async (client) => {
  await client.query('select count(*) from near');
  await client.query('insert into near values (1)');
  await client.query('insert into log values (1)');
};
for (const client of [first, second]) await client.query('begin isolation level serializable');
await first.query('select count(*) from near');
await work(second);
await first.query('insert into near values (0)');
await first.query('commit');
const { code, message } = await second.query('commit').then(() => assert.fail('committed'), (error) => error);
const written = async () => [
  await one('select count(*)::int from near where id = 1'),
  await one('select count(*)::int from far.log'),
];
console.log(`COMMIT: ${code} ${message}`);
console.log(`rows it has left here and there: ${await written()}`);
assert.equal(code, '40001');
assert.deepEqual(await written(), [0, 1]);

await second.query('begin isolation level serializable');
await work(second);
await second.query('commit');
console.log(`run again, committed; rows here and there: ${await written()}`);
assert.deepEqual(await written(), [1, 2]);
for (const each of [first, second]) await each.end();
JS
