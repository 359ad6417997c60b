#!/usr/bin/env bash
# PostgreSQL 18.4, logical replication with binary = true, columns whose type has no binary output function.
#
# Expected, from the manual (CREATE SUBSCRIPTION, "binary": "only data types having binary send and receive functions will be transferred in
# binary"): such a column is sent as text, and so is an array of it.
# Seen: aclitem arrives as text. For aclitem[] PostgreSQL looks at the array's own send function, which exists, and takes it for sendable; that
# one then fails for the element. Nothing warns when publication and subscription are made: the first row ends the sender, again and again, and
# with it every other table of the subscription.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres wal_level=logical wal_retrieve_retry_interval=100ms
javascript <<'JS'
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { twoDatabases } from './two-databases.mjs';

const { admin, sender, receiver } = await twoDatabases();
for (const each of [sender, receiver])
  await each.query(`create table one (id int primary key, x aclitem); create table other (id int primary key);
                    create table many (id int primary key, x aclitem[])`);
await sender.query(`create publication p for all tables`);
await sender.query(`select pg_create_logical_replication_slot('s', 'pgoutput')`);
await receiver.query(`create subscription s connection 'host=127.0.0.1 port=${process.env.PGPORT} user=postgres dbname=sender'
  publication p with (create_slot = false, copy_data = false, binary = true)`);

const rows = async (table) => (await receiver.query(`select count(*)::int as n from ${table}`)).rows[0].n;
const arrives = async (table, seconds) => {
  for (let i = 0; i < seconds * 10; i++, await sleep(100)) if ((await rows(table)) > 0) return true;
  return false;
};
await sender.query(`insert into one values (1, 'postgres=r/postgres')`);
assert.equal(await arrives('one', 30), true);
console.log('aclitem arrives');
await sender.query(`insert into many values (1, '{postgres=r/postgres}')`);
await sender.query(`insert into other values (1)`);
assert.equal(await arrives('other', 5), false);
assert.equal(await rows('many'), 0);
console.log('behind a row with aclitem[], nothing arrives any more, of no table');
for (const each of [sender, receiver, admin]) await each.end();
JS
grep -m1 -o 'no binary output function available for type aclitem' "$work/server.log"
