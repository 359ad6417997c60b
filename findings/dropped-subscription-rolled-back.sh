#!/usr/bin/env bash
# PostgreSQL 18.4, logical replication: DROP SUBSCRIPTION without a slot, in a transaction that is rolled
# back.
#
# Expected: nothing has happened. DROP SUBSCRIPTION is refused in a transaction block only where a slot hangs
# on it.
# Seen: subscription and origin are there again, but not how far the origin had come: that part of shared
# memory is cleared at once. The position is what keeps a subscriber from taking rows twice from a slot that
# is behind (a copy, or one after a failover); from then on it does take them twice, and without a key nothing
# says so.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres wal_level=logical wal_retrieve_retry_interval=100ms
javascript <<'JS'
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { twoDatabases } from './two-databases.mjs';

const { admin, sender, receiver } = await twoDatabases();
for (const each of [sender, receiver]) await each.query('create table t (id int)');
await sender.query('create publication p for table t');
for (const slot of ['ahead', 'behind_1', 'behind_2'])
  await sender.query(`select pg_create_logical_replication_slot($1, 'pgoutput')`, [slot]);
await receiver.query(`create subscription s connection 'host=127.0.0.1 port=${process.env.PGPORT} user=postgres dbname=sender'
  publication p with (create_slot = false, slot_name = ahead, copy_data = false)`);

const one = async (client, text) => Object.values((await client.query(text)).rows[0])[0];
const until = async (test) => {
  for (let i = 0; i < 300; i++, await sleep(100)) if (await test()) return;
  throw new Error('waited for 30 s');
};
const rows = async () => (await receiver.query('select id from t order by id')).rows.map((row) => row.id);
const send = async (id) => {
  await sender.query('insert into t values ($1)', [id]);
  await until(async () => (await rows()).includes(id));
};
const position = () => one(receiver, 'select pg_replication_origin_progress(roname, false)::text from pg_replication_origin');
const stop = async () => {
  await receiver.query('alter subscription s disable');
  await until(async () => (await one(receiver, 'select count(pid)::int from pg_stat_subscription')) === 0);
  await receiver.query('alter subscription s set (slot_name = none)');
};
const resume = async (slot) => {
  await receiver.query(`alter subscription s set (slot_name = ${slot})`);
  await receiver.query('alter subscription s enable');
};

await send(1);
await stop();
await resume('behind_1');
await send(2);
console.log(`from a slot that is behind: ${await rows()}`);
assert.deepEqual(await rows(), [1, 2]);

await stop();
const before = await position();
await receiver.query('begin');
await receiver.query('drop subscription s');
await receiver.query('rollback');
console.log(`position: ${before}; after DROP SUBSCRIPTION and ROLLBACK: ${await position()}`);
assert.notEqual(before, null);
assert.equal(await position(), null);

await resume('behind_2');
await send(3);
console.log(`from another slot that is behind: ${await rows()}`);
assert.deepEqual(await rows(), [1, 1, 2, 2, 3]);
for (const each of [sender, receiver, admin]) await each.end();
JS
