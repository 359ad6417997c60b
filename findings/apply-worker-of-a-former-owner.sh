#!/usr/bin/env bash
# PostgreSQL 18.4, logical replication: whose worker is it, after ALTER SUBSCRIPTION … OWNER TO?
#
# Expected, from the manual (ALTER SUBSCRIPTION: "workers run as the owner") and from what is usually seen: the apply worker of a subscription
# that changes its owner ends, and another one is started as the new owner.
# Seen: a worker that is being started while the owner changes logs in as the former owner, finds the new one when it reads the subscription, and
# has nothing to notice later: it stays a session of the former owner (here: of a superuser) for as long as the stream lasts.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres wal_level=logical wal_retrieve_retry_interval=50ms
javascript <<'JS'
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { streamingDatabases } from './two-databases.mjs';

const { admin, sender, receiver } = await streamingDatabases(', enabled = false');
await receiver.query('create role former superuser login; create role later superuser login');

const worker = async () =>
  (
    await receiver.query(`select a.usename as is, pg_get_userbyid(s.subowner) as owner, clock_timestamp() - a.backend_start > interval '1 s' as lasts
      from pg_subscription s join pg_stat_subscription w on w.subid = s.oid join pg_stat_activity a on a.pid = w.pid where w.pid is not null`)
  ).rows[0];
const until = async (what) => {
  for (let i = 0; i < 500; i++, await sleep(20)) if (what(await worker())) return worker();
  throw new Error('waited in vain');
};

let odd = 0;
let even = 0;
for (let round = 0; round < 60 && odd < 3; round++) {
  await receiver.query('alter subscription s disable');
  await until((w) => w === undefined);
  await receiver.query('alter subscription s owner to former');
  await receiver.query('alter subscription s enable');
  await admin.query('select pg_sleep($1)', [(round % 12) / 2000]);
  await receiver.query('alter subscription s owner to later');
  const { is, owner } = await until((w) => w?.lasts);
  if (is === owner) even += 1;
  else odd += 1;
}
console.log(`the worker is who the subscription belongs to: ${even} times; its former owner, a second later still: ${odd} times`);
assert.ok(odd > 0);
for (const each of [admin, sender, receiver]) await each.end();
JS
