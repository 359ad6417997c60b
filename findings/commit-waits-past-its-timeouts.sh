#!/usr/bin/env bash
# PostgreSQL 18.4, a commit that waits for a synchronous standby.
#
# Expected: statement_timeout ("Abort any statement that takes more than the specified amount of time") and transaction_timeout end the wait.
# Seen: neither timer runs any more once a commit waits. Only a cancel or the end of the session does, and a cancel is no failure: the
# client is told COMMIT, with a WARNING, and the row is there.
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
const [admin, client] = [await connect(), await connect()];
console.log((await client.query('show server_version')).rows[0].server_version);
await client.query('create table t (id int)');
await admin.query(`alter system set synchronous_standby_names = 'nobody'`);
await admin.query('select pg_reload_conf()');
const { pid } = (await client.query('select pg_backend_pid() as pid')).rows[0];
const waits = async () =>
  (await admin.query(`select from pg_stat_activity where pid = $1 and wait_event = 'SyncRep'`, [pid])).rowCount === 1;

await client.query(`set statement_timeout = '500ms'; set transaction_timeout = '500ms'`);
const notices = [];
client.on('notice', (notice) => notices.push(notice.message));
let answer;
for (let id = 1; ; id++) {
  // The list is in force when the checkpointer has taken it up.
  answer = client.query('insert into t values ($1)', [id]);
  if ((await Promise.race([answer, sleep(1_000, 'waits')])) === 'waits') break;
}
await sleep(3_000);
assert.equal(await waits(), true);
console.log('both timeouts at 500 ms: the commit still waits after 4 s');
await admin.query('select pg_cancel_backend($1)', [pid]);
assert.equal((await answer).command, 'INSERT');
console.log(`cancelled: answered with success; ${notices.at(-1)}`);
assert.match(notices.at(-1), /canceling wait for synchronous replication due to user request/);
await admin.query(`alter system reset synchronous_standby_names`);
await admin.query('select pg_reload_conf()');
await client.end();
await admin.end();
JS
