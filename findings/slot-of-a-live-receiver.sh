#!/usr/bin/env bash
# PostgreSQL 18.4, a logical replication slot whose receiver is alive: how to drop it.
#
# Expected, from the manual (9.28.2, pg_terminate_backend: with a timeout it "waits until the process is actually terminated", and says true then):
# once the walsender is terminated the slot is free, and pg_drop_replication_slot in the very next call takes it away.
# Seen: the call waits in steps of 100 ms. By the time that it says true, the subscription's apply worker has been started anew (at once, where
# its last start is longer ago than wal_retrieve_retry_interval) and holds the slot again: pg_drop_replication_slot fails with 55006 (object in
# use), most of the times. Terminated without a timeout, and dropped by a loop on the server, it is gone.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres wal_level=logical wal_retrieve_retry_interval=200ms
javascript <<'JS'
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { streamingDatabases } from './two-databases.mjs';

const { admin, sender, receiver } = await streamingDatabases();

const inUse = [];
const streams = async () => {
  for (let i = 0; i < 300; i++, await sleep(100)) {
    const { rowCount } = await sender.query(
      `select from pg_stat_replication where state = 'streaming' and clock_timestamp() - backend_start > interval '1 s'`,
    );
    if (rowCount === 1) return;
  }
  throw new Error('nothing streams after ' + inUse);
};

for (let round = 0; round < 10; round++) {
  await streams();
  const { rows } = await sender.query(
    `select pg_terminate_backend(active_pid, 2000) as ended from pg_replication_slots where slot_name = 's'`,
  );
  assert.equal(rows[0].ended, true);
  const dropped = await sender.query(`select pg_drop_replication_slot('s')`).then(() => true, (error) => error.code);
  inUse.push(dropped);
  if (dropped === true) await sender.query(`select pg_create_logical_replication_slot('s', 'pgoutput')`);
}
const failed = inUse.filter((code) => code === '55006').length;
console.log(`terminated with a timeout, then dropped: ${failed} of ${inUse.length} failed with 55006`);
assert.ok(failed >= 3);
await streams();
await sender.query(`do $$ begin
  for try in 1..2000 loop
    perform pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 's' and active_pid is not null;
    begin
      perform pg_drop_replication_slot('s');
      return;
    exception when object_in_use then null;
    end;
    perform pg_sleep(0.001);
  end loop;
end $$`);
assert.equal((await sender.query('select from pg_replication_slots')).rowCount, 0);
console.log('terminated without one, and tried every millisecond: dropped');
for (const each of [sender, receiver, admin]) await each.end();
JS
