#!/usr/bin/env bash
# pg-logical-replication 2.5.0, PostgreSQL 18.4: a consumer that acknowledges by hand (acknowledge.auto =
# false).
#
# Expected, from its README: the periodic status "does not advance the WAL flush position", and a change that
# was not acknowledged is sent again.
# Seen: the timer (timeoutSeconds, 10 unless told) acknowledges whatever has been RECEIVED. A consumer that is
# still at work on a change, or has failed with it, does not get it again after a restart.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres wal_level=logical
npm install --prefix "$work" --silent --no-audit --no-fund pg-logical-replication@2.5.0 >/dev/null
javascript <<'JS'
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { LogicalReplicationService, PgoutputPlugin } from 'pg-logical-replication';

const client = new pg.Client();
await client.connect();
console.log((await client.query('show server_version')).rows[0].server_version);
await client.query('create table t (id int primary key); create publication p for table t');
await client.query(`select pg_create_logical_replication_slot('s', 'pgoutput')`);
await client.query('insert into t values (1), (2)');

const free = async () => (await client.query('select from pg_replication_slots where active')).rowCount === 0;
/** The ids that a consumer gets which acknowledges nothing and is stopped after so long. */
const consume = async (milliseconds, timeoutSeconds) => {
  while (!(await free())) await sleep(50);
  const service = new LogicalReplicationService({ database: 'postgres' }, { acknowledge: { auto: false, timeoutSeconds } });
  const ids = [];
  service.on('data', (_, message) => message.tag === 'insert' && ids.push(message.new.id));
  service.on('error', (error) => console.log(error.message));
  const ended = service.subscribe(new PgoutputPlugin({ protoVersion: 1, publicationNames: ['p'] }), 's');
  await sleep(milliseconds);
  await service.stop();
  await ended;
  return ids;
};
const seen = {
  timerOff: await consume(4_000, 0),
  timerOn: await consume(4_000, 1),
  afterwards: await consume(4_000, 0),
};
console.log('received, one consumer after the other, none acknowledges:', seen);
assert.deepEqual(seen, { timerOff: [1, 2], timerOn: [1, 2], afterwards: [] });
await client.end();
JS
