#!/usr/bin/env bash
# lmdb 3.5.6 (lmdb-js): what the promises of asynchronous writes say, and what the store has then.
#
# Expected: put(), documented to tell whether the put took place, resolves to false inside an ifVersion()
# whose condition does not hold. And a transaction() that rejects because its callback threw has written
# nothing, like transactionSync() and childTransaction().
# Seen: the put that did not take place resolves to true; with the version as its own argument it says false.
# What the callback had put before it threw is committed.
. "$(dirname "$0")/lib/work.sh"
install lmdb@3.5.6
javascript <<'JS'
import assert from 'node:assert/strict';
import { open } from 'lmdb';

const db = open({ path: 'store', useVersions: true });
await db.put('k', 'first', 1);
let put;
const ifVersion = await db.ifVersion('k', 7, () => {
  put = db.put('k', 'second', 8);
});
const answers = { ifVersion, putInside: await put, putWithVersion: await db.put('k', 'third', 8, 7), value: db.get('k') };
console.log('a condition that does not hold:', answers);
assert.deepEqual(answers, { ifVersion: false, putInside: true, putWithVersion: false, value: 'first' });

const written = {};
for (const how of ['transactionSync', 'childTransaction', 'transaction']) {
  await assert.rejects(async () => db[how](() => {
    db.put(how, 'half');
    throw new Error('changed my mind');
  }), /changed my mind/);
  written[how] = db.get(how);
}
console.log('what a callback that threw has written:', written);
assert.deepEqual(written, { transactionSync: undefined, childTransaction: undefined, transaction: 'half' });
await db.close();
JS
