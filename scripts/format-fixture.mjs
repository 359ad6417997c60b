/**
 * Writes what a real cluster of this version keeps on disk, with operations of several kinds under way, as
 * JSON: a fixture that every later version has to read (tests/unit/formats.test.ts). `node
 * scripts/format-fixture.mjs FILE [DIST]`; DIST is the build to run, default dist.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { open } from 'lmdb';

const [file, dist = 'dist'] = process.argv.slice(2);
if (file === undefined) throw new Error('usage: node scripts/format-fixture.mjs FILE [DIST]');
const { LocalCluster } = await import(pathToFileURL(resolve(dist, 'local/local-cluster.js')).href);

const cluster = await LocalCluster.create();
try {
  for (let started = 0; started < 4; started++) await cluster.addNode({ locality: `zone=${'abab'[started]}` });
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  await createTable('CREATE TABLE acct (id bigint PRIMARY KEY, city text NOT NULL, CHECK (id <> 0))', 2);
  await createTable('CREATE TABLE log (id bigint PRIMARY KEY)', 1);
  await holdUp();
  const rows = await cluster.admin({ do: 'partition-ls', table: 'acct' });
  const holders = (pid) => rows.filter((r) => r.pid === pid).map((r) => r.node);
  const leader = (pid) => rows.find((r) => r.pid === pid && r.role === 'leader').node;
  const free = (pid) => [1, 2, 3, 4].find((n) => !holders(pid).includes(n));
  // Held up at their swings and copies by the transactions that are open; one is queued behind another.
  await cluster.admin({ do: 'partition-change-leader', table: 'acct', pid: 0, to: 'auto' });
  await cluster.admin({ do: 'partition-migrate', table: 'acct', pids: [1], from: leader(1), to: free(1) });
  await cluster.admin({ do: 'partition-add-replica', table: 'acct', pids: [2], node: free(2) });
  await cluster.admin({ do: 'node-drain', node: 2 });
  await cluster.admin({ do: 'node-decommission', nodes: [4], checks: 'skip' });
  await sleep(4_000);
  const { store } = cluster.node(1);
  await cluster.node(1).kill();
  const format = {
    version: versionOf(),
    commit: commitOf(),
    identity: readJson(join(store, 'node.json')),
    ...dump(join(store, 'meta')),
  };
  writeFileSync(file, `${JSON.stringify(format, null, 1)}\n`);
} finally {
  await cluster.close();
}

async function createTable(sql, replicas) {
  const { operation } = await cluster.admin({ do: 'table-create', sql, partitions: 4, replicas });
  await cluster.waitForOperation(operation);
}

/** A write transaction on every partition, which stays open. */
async function holdUp() {
  const client = await cluster.sql(1).connect();
  client.on('error', () => {});
  await client.query('BEGIN');
  await client.query(`INSERT INTO acct SELECT n, 'x' FROM generate_series(1, 100) n`);
}

function dump(directory) {
  const root = open({ path: directory, maxDbs: 4, readOnly: true });
  const facts = Object.fromEntries(
    [...root.openDB({ name: 'facts', encoding: 'json' }).getRange()].map((e) => [e.key, e.value]),
  );
  const entries = [...root.openDB({ name: 'entries', encoding: 'json' }).getRange()]
    .filter((e) => !e.key.startsWith('/event/'))
    .map(({ key, value }) => ({ key, value: value.v }));
  return { facts, entries };
}

function readJson(path) {
  return JSON.parse(readFileSync(path, 'utf8'));
}

function versionOf() {
  return readJson(resolve(dist, '..', 'package.json')).version;
}

function commitOf() {
  return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: resolve(dist, '..'), encoding: 'utf8' }).trim();
}
