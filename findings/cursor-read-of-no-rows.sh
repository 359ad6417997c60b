#!/usr/bin/env bash
# pg-cursor 2.22.0 (node-postgres), PostgreSQL 18.4: cursor.read(0).
#
# Expected: no rows, since none were asked for.
# Seen: all rows of the result at once. The number goes into the protocol's Execute message, where 0 means "no limit": a page size that
# is computed, and comes out as 0, loads the whole table into memory.
. "$(dirname "$0")/lib/postgres.sh"
start_postgres
npm install --prefix "$work" --silent --no-audit --no-fund pg-cursor@2.22.0 >/dev/null
javascript <<'JS'
import assert from 'node:assert/strict';
import pg from 'pg';
import Cursor from 'pg-cursor';

const client = new pg.Client();
await client.connect();
const cursor = client.query(new Cursor('select generate_series(1, 100000)'));
assert.equal((await cursor.read(10)).length, 10);
const { length } = await cursor.read(0);
console.log(`read(10), then read(0): ${length} rows`);
assert.equal(length, 99_990);
await cursor.close();
await client.end();
JS
