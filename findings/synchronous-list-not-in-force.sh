#!/usr/bin/env bash
# PostgreSQL 18.4: the first synchronous_standby_names of a server, set and reloaded while its checkpointer is busy (here: stopped).
#
# Expected: a session in which SHOW gives the new list waits for the standby at its next commit.
# Seen: it does not. Whether commits wait at all is a flag in shared memory that the checkpointer alone sets when IT takes the file up; until
# then every session shows the list, pg_settings says that nothing is pending, and commits are acknowledged by nobody else.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres
checkpointer=$(pgrep -P "$postmaster" -f checkpointer)
kill -STOP "$checkpointer"
javascript <<'JS'
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const admin = new pg.Client();
await admin.connect();
console.log((await admin.query('show server_version')).rows[0].server_version);
await admin.query('create table t (id int)');
await admin.query(`alter system set synchronous_standby_names = 'nobody'`);
await admin.query('select pg_reload_conf()');
const client = new pg.Client();
const shown = async () => (await admin.query('show synchronous_standby_names')).rows[0].synchronous_standby_names;
while ((await shown()) !== 'nobody') await sleep(50);
await client.connect();
const { rows } = await client.query(
  `select setting, pending_restart from pg_settings where name = 'synchronous_standby_names'`);
assert.deepEqual(rows, [{ setting: 'nobody', pending_restart: false }]);
const outcome = await Promise.race([client.query('insert into t values (1)').then(() => 'acknowledged'), sleep(5_000, 'waits')]);
console.log(`a new session shows ${JSON.stringify(rows[0])}; its commit: ${outcome}`);
assert.equal(outcome, 'acknowledged');
await client.end();
await admin.end();
JS
kill -CONT "$checkpointer"
javascript <<'JS'
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

const [admin, client] = [new pg.Client(), new pg.Client()];
await admin.connect();
await client.connect();
client.on('error', () => {});
let outcome = 'acknowledged';
for (let id = 1; outcome === 'acknowledged' && id < 100; id++, await sleep(100)) {
  const insert = client.query('insert into t values (2)').then(() => 'acknowledged', () => 'ended');
  outcome = await Promise.race([insert, sleep(2_000, 'waits')]);
}
console.log(`once the checkpointer goes on, a commit: ${outcome}`);
assert.equal(outcome, 'waits');
await admin.query('select pg_terminate_backend(pid) from pg_stat_activity where wait_event = $1', ['SyncRep']);
await admin.end();
await client.end().catch(() => {});
JS
