import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PartitionRow } from '../../src/api/results.ts';
import type { Quorum } from '../../src/catalog/model.ts';
import { partitionTable, subscriptionName } from '../../src/catalog/names.ts';
import { NO_QUORUM, protects, quorumFor } from '../../src/catalog/quorum.ts';
import { must } from '../../src/core/assert.ts';
import { postgresDataPlane } from '../../src/postgres/data-plane.ts';
import { NodeConnections } from '../../src/postgres/sql/client.ts';
import { parseQuorum } from '../../src/postgres/sql/quorum.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { freezeNode } from '../support/freeze.ts';
import { Inserter } from './support/inserter.ts';
import { Load } from './support/load.ts';
import {
  eventually,
  expectNothingLost,
  expectReplicasEqual,
  expectSettled,
  holdersOf,
  startNodes,
} from './support/proof.ts';

/**
 * docs/spec/quorum.md, Q1: every acknowledged commit is on disk on a follower of its own partition, and
 * nobody waits for more than that.
 */

const PARTITIONS = 8;
const table = 'acct';
/**
 * Longer than a change of the quorum and a swing ever take here; far less than the liveness window of three
 * seconds.
 */
const NO_HANG_MS = 2_000;
let cluster: LocalCluster;
let nodes: number[];
let load: Load;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 4);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  load = await Load.prepare(cluster, { table, nodes, partitions: PARTITIONS, replicas: 3 });
  load.start();
});
afterAll(() => cluster?.close());

async function quorumOf(node: number): Promise<Quorum> {
  const { rows } = await cluster.postgres(node).query('SHOW synchronous_standby_names');
  return must(parseQuorum(node, rows[0].synchronous_standby_names) ?? undefined, 'a list of ours');
}

const addressOf = (node: number) => ({ host: '127.0.0.1', port: cluster.node(node).postgresPort });

const partitions = () => cluster.admin({ do: 'partition-ls' });

/** The least quorum for what the listing shows, by node. */
function wantedFrom(rows: readonly PartitionRow[], node: number): Quorum {
  const sets = rows.filter((r) => r.role === 'leader' && r.node === node).map((r) => followersIn(rows, r));
  return quorumFor(sets);
}

function followersIn(rows: readonly PartitionRow[], { tid, pid }: PartitionRow): number[] {
  return rows
    .filter((r) => r.tid === tid && r.pid === pid && r.role === 'follower' && r.state === 'ready' && r.isAlive)
    .map((r) => r.node);
}

async function expectListsAsWanted(): Promise<void> {
  await eventually(async () => {
    const rows = await partitions();
    for (const node of nodes) expect(await quorumOf(node), `node ${node}`).toEqual(wantedFrom(rows, node));
    for (const row of rows.filter((r) => r.role === 'leader')) expect(row.durability).toBe('quorum');
  });
}

/**
 * Looks at every list while `work` goes on: what the catalog said before and after a look has to have been
 * protected in between.
 */
async function protectedDuring(work: Promise<unknown>): Promise<number> {
  let ended = false;
  void work.then(
    () => (ended = true),
    () => (ended = true),
  );
  let looks = 0;
  while (!ended) {
    const before = await partitions();
    const lists = new Map<number, Quorum>();
    for (const { node } of before.filter((r) => r.role === 'leader')) lists.set(node, await quorumOf(node));
    const after = JSON.stringify((await partitions()).map((r) => [r.tid, r.pid, r.node, r.role, r.state]));
    for (const row of before.filter((r) => r.role === 'leader')) {
      const mine = before.filter((r) => r.tid === row.tid && r.pid === row.pid);
      if (!mine.every((r) => after.includes(JSON.stringify([r.tid, r.pid, r.node, r.role, r.state])))) continue;
      const followers = followersIn(before, row);
      const list = must(lists.get(row.node), 'list');
      expect(
        protects(list, followers),
        `${row.pid} on node ${row.node}: ${JSON.stringify(list)} for ${followers}`,
      ).toBe(true);
      looks += 1;
    }
    await sleep(50);
  }
  await work;
  return looks;
}

async function done(started: Promise<{ operations: number[] }>): Promise<void> {
  for (const id of (await started).operations) await cluster.waitForOperation(id);
}

describe('the quorum under load', () => {
  it('is what the partitions need, from the first write on', expectListsAsWanted);

  it('covers every partition through changes of leader, moves, additions and removals, and hangs no writer', async () => {
    const beganMs = performance.now();
    const moves = async () => {
      for (const pid of [0, 1, 2]) {
        const { leader, followers } = await holdersOf(cluster, table, pid);
        const free = must(
          nodes.find((n) => n !== leader && !followers.includes(n)),
          'free node',
        );
        await done(cluster.admin({ do: 'partition-change-leader', table, pid, to: must(followers[0], 'follower') }));
        await done(cluster.admin({ do: 'partition-migrate', table, pids: [pid], from: leader, to: free }));
        await done(cluster.admin({ do: 'partition-add-replica', table, pids: [pid], node: leader }));
        await done(cluster.admin({ do: 'partition-del-replica', table, pids: [pid], node: free }));
      }
    };
    expect(await protectedDuring(moves())).toBeGreaterThan(PARTITIONS);
    await expectListsAsWanted();
    expect(load.longestWriteMs(beganMs)).toBeLessThan(NO_HANG_MS);
  });

  it('goes on where a stream ends and PostgreSQL does not begin it again; one that cannot be renewed keeps its place', async () => {
    const [from = 0, receiver = 0] = nodes;
    const sql = cluster.manager(receiver);
    const place = async () =>
      (
        await sql.query(
          `SELECT subenabled AS enabled, pg_replication_origin_progress('pg_' || oid, true) AS lsn FROM pg_subscription WHERE subname = $1`,
          [subscriptionName(from, receiver)],
        )
      ).rows;
    // As where its clock has been set back.
    await sql.query(`ALTER SYSTEM SET wal_retrieve_retry_interval = '1h'`);
    await sql.query('SELECT pg_reload_conf()');
    // The launcher may begin some once more before it has heard of that.
    const workers = `FROM pg_stat_activity WHERE backend_type = 'logical replication apply worker'`;
    await eventually(async () =>
      expect((await sql.query(`SELECT pg_terminate_backend(pid, 5000) ${workers}`)).rowCount).toBe(0),
    );
    const before = await place();
    expect(before).toMatchObject([{ enabled: true, lsn: expect.stringContaining('/') }]);
    // Through a manager whose servers cannot reach each other.
    const connections = new NodeConnections(
      (id) => addressOf(id),
      () => true,
      null,
    );
    const cutOff = postgresDataPlane(connections, () => ({ host: '127.0.0.1', port: 1 }));
    await expect(cutOff.streams.renew(from, receiver)).rejects.toThrow('could not connect');
    await connections.close();
    expect(await place()).toEqual(before);
    const renewed = async () =>
      (await cluster.admin({ do: 'events', limit: 1_000 })).filter((e) => e.kind === 'stream-renewed');
    await eventually(async () => {
      expect((await sql.query(`SELECT ${workers}`)).rowCount).toBe(nodes.length - 1);
      expect(await renewed()).not.toEqual([]);
    });
    expect((await renewed()).every((e) => e.node === receiver)).toBe(true);
    await sql.query('ALTER SYSTEM RESET wal_retrieve_retry_interval');
    await sql.query('SELECT pg_reload_conf()');
    const left = await sql.query(`SELECT subname FROM pg_subscription WHERE subname ~ '_(next|past)$'`);
    expect(left.rows).toEqual([]);
    await expectListsAsWanted();
  });

  it('goes on where somebody has disabled a stream, copies nothing again, and clears a renewal that was cut off', async () => {
    const [from = 0, receiver = 0] = nodes;
    const rows = await partitions();
    expect(rows.some((r) => r.role === 'leader' && r.node === from && followersIn(rows, r).includes(receiver))).toBe(
      true,
    );
    const stream = subscriptionName(from, receiver);
    const sql = cluster.manager(receiver);
    const enabled = `SELECT FROM pg_subscription WHERE subname = '${stream}' AND subenabled`;
    await sql.query(
      `CREATE SUBSCRIPTION ${stream}_next CONNECTION '' PUBLICATION none WITH (connect = false, slot_name = NONE)`,
    );
    await sql.query(`ALTER SUBSCRIPTION ${stream} DISABLE`);
    await eventually(async () => expect((await sql.query(enabled)).rowCount).toBe(1));
    await eventually(async () => expect((await cluster.admin({ do: 'doctor' })).findings).toEqual([]));
    await expectListsAsWanted();
    const operations = await cluster.admin({ do: 'op-ls', all: true });
    expect(operations.filter((o) => o.kind === 'resync-replica')).toEqual([]);
  });

  it('lets a node leave, and hangs no writer', async () => {
    const leaving = must(nodes.at(-1), 'node');
    const beganMs = performance.now();
    load.nodes = nodes = nodes.filter((n) => n !== leaving);
    const { operation } = await cluster.admin({ do: 'node-decommission', nodes: [leaving] });
    expect(await protectedDuring(cluster.waitForOperation(must(operation ?? undefined, 'operation')))).toBeGreaterThan(
      0,
    );
    await cluster.node(leaving).stop();
    await expectListsAsWanted();
    expect(load.longestWriteMs(beganMs)).toBeLessThan(NO_HANG_MS);
  });

  it('lost nothing and left nothing behind', async () => {
    await load.stop();
    expect(load.done.transactions).toBeGreaterThan(50);
    await expectNothingLost(cluster, load, nodes);
    await expectReplicasEqual(cluster);
    await expectSettled(cluster, nodes);
  });
});

/** Into the table of the load. */
const insertVia = (via: number, key: number) =>
  cluster.postgres(via).query(`INSERT INTO ${table} VALUES ($1, 'durable', 1)`, [key]);

let nextKey = 1e9;
const HASHED = 40_000;

const ledBy = async (node: number) =>
  (await partitions()).filter((r) => r.table === table && r.role === 'leader' && r.node === node);

/** Keys that nobody has used, all of partitions that `leaders` lead. */
async function keysLedBy(leaders: readonly number[], of = table): Promise<number[]> {
  const from = nextKey;
  nextKey += HASHED;
  const rows = (await partitions()).filter((r) => r.table === of && r.role === 'leader' && leaders.includes(r.node));
  const keys = await Promise.all(rows.map((r) => keysOf(of, r.pid, from)));
  return keys.flat().sort((a, b) => (a % 997) - (b % 997));
}

async function keysOf(of: string, pid: number, from: number): Promise<number[]> {
  const { rows } = await cluster.postgres(must(nodes[0], 'node')).query(
    `SELECT n AS id FROM generate_series($1::bigint, $1::bigint + ${HASHED - 1}) n
      WHERE satisfies_hash_partition('${of}'::regclass, ${PARTITIONS}, ${pid}, n)`,
    [from],
  );
  return rows.map((r) => Number(r.id));
}

/** The node's process and its server, as where a machine loses its power. */
async function killMachine(node: number): Promise<void> {
  const postmaster = must(cluster.node(node).postgresProcessId, 'postmaster');
  await cluster.node(node).kill();
  cluster.node(node).killPostgres();
  // Until its parent has taken note, PostgreSQL takes the dead one for alive.
  await eventually(async () => expect(existsSync(`/proc/${postmaster}`)).toBe(false));
}

describe('a node that dies', () => {
  it.each([1, 2])('has acknowledged nothing that no follower has, round %i', async () => {
    const [home = 0, ...rest] = nodes;
    // The one that has died before leads nothing any more.
    const [victim = 0, other = 0] = (await ledBy(rest[0] ?? 0)).length > 0 ? rest : rest.toReversed();
    const keys = await keysLedBy([victim]);
    const rows = await partitions();
    const inserters = [victim, other, home].map((via) => new Inserter(2, keys, (key) => insertVia(via, key)));
    await sleep(1_500);
    await killMachine(victim);
    await Promise.all(inserters.map((i) => i.stop()));
    const acknowledged = inserters.flatMap((i) => i.acknowledged.map((a) => a.key));
    expect(acknowledged.length).toBeGreaterThan(100);
    for (const led of rows.filter((r) => r.role === 'leader' && r.node === victim)) {
      const mine = new Set(await keysOf(table, led.pid, Math.min(...acknowledged)));
      const wanted = acknowledged.filter((k) => mine.has(k));
      const missing = followersIn(rows, led).map(async (node) => {
        const found = await cluster.manager(node).query(`SELECT id FROM tide_data.${partitionTable(led.tid, led.pid)}`);
        const there = new Set(found.rows.map((r) => Number(r.id)));
        return wanted.filter((k) => !there.has(k)).length;
      });
      expect(Math.min(...(await Promise.all(missing))), `partition ${led.pid}: missing on the best follower`).toBe(0);
    }
    await cluster.node(victim).restart();
    await eventually(async () => expect((await partitions()).filter((r) => r.state !== 'ready')).toEqual([]));
    await expectListsAsWanted();
  });
});

describe('a follower that stands still', () => {
  it('holds up nobody where there is another, is taken out of the lists, and comes back', async () => {
    const [home = 0, frozen = 0, other = 0] = nodes;
    const keys = await keysLedBy([home, other]);
    const running = [home, other].map((via) => new Inserter(1, keys, (key) => insertVia(via, key)));
    await sleep(300);
    const thaw = freezeNode(cluster, frozen);
    try {
      await eventually(async () => {
        for (const node of [home, other]) expect((await quorumOf(node)).nodes).not.toContain(frozen);
      });
      await sleep(1_000);
    } finally {
      thaw();
    }
    await expectListsAsWanted();
    await Promise.all(running.map((i) => i.stop()));
    for (const inserter of running) {
      expect(inserter.failures).toEqual([]);
      expect(inserter.acknowledged.length).toBeGreaterThan(100);
      expect(inserter.longestMs).toBeLessThan(NO_HANG_MS);
    }
    await expectReplicasEqual(cluster);
  });

  it('is waited for where there is no other, until the operator says otherwise', async () => {
    const two = 'pair';
    await createTable(cluster, `CREATE TABLE ${two} (id bigint PRIMARY KEY)`, { partitions: PARTITIONS, replicas: 2 });
    const [home = 0, frozen = 0] = nodes;
    const pid = must(
      (await partitions()).find((r) => r.table === two && r.role === 'leader' && r.node === home),
      'partition',
    ).pid;
    const followers = (await holdersOf(cluster, two, pid)).followers;
    const waitedFor = followers[0] ?? frozen;
    const [key] = await keysOf(two, pid, nextKey);
    const thaw = freezeNode(cluster, waitedFor);
    try {
      let acknowledged = false;
      const insert = cluster
        .postgres(home)
        .query(`INSERT INTO ${two} VALUES ($1)`, [key])
        .then(() => (acknowledged = true));
      await eventually(async () => {
        const row = (await partitions()).find((r) => r.table === two && r.pid === pid && r.node === home);
        expect(row?.durability).toBe('waits');
      });
      await sleep(1_000);
      expect(acknowledged).toBe(false);
      await cluster.admin({ do: 'setting-set', key: 'quorum_lost', value: 'allow' });
      await insert;
      const row = (await partitions()).find((r) => r.table === two && r.pid === pid && r.node === home);
      expect(row?.durability).toBe('leader');
    } finally {
      thaw();
    }
    await cluster.admin({ do: 'setting-set', key: 'quorum_lost', value: 'wait' });
    await expectListsAsWanted();
  });

  it('ends the writes that wait for it and fails the next at once, where the operator wants that', async () => {
    const [home = 0] = nodes;
    await cluster.admin({ do: 'setting-set', key: 'quorum_lost', value: 'fail' });
    const lost = await ledAndFollowed('pair', home);
    const other = must(
      nodes.find((n) => n !== home && n !== lost.follower),
      'another node',
    );
    const shown = async () =>
      (await partitions()).find((r) => r.tid === lost.tid && r.pid === lost.pid && r.role === 'leader');
    nextKey += HASHED;
    const keys = await keysOf('pair', lost.pid, nextKey);
    nextKey += HASHED;
    const healthy = (await keysLedBy([home], table)).slice(0, 50);
    const insert = (via: number, key: unknown) => cluster.postgres(via).query('INSERT INTO pair VALUES ($1)', [key]);
    const write = (via: number) => insert(via, keys.pop());
    const writers = [home, home, other].map((via) => new Inserter(1, keys, (key) => insert(via, key)));
    await sleep(200);
    const thaw = freezeNode(cluster, lost.follower);
    const frozenMs = performance.now() + 100;
    try {
      await eventually(async () => expect((await shown())?.durability).toBe('refuses'));
      await eventually(async () => expect((await quorumOf(home)).nodes).not.toContain(lost.follower));
      for (const via of [home, other]) {
        const beganMs = performance.now();
        await expect(write(via), `through node ${via}`).rejects.toMatchObject({ code: 'TD005' });
        await expect(cluster.sql(via).query('INSERT INTO pair VALUES ($1)', [keys.pop()])).rejects.toMatchObject({
          code: 'TD005',
          message: `partition ${lost.pid} of table pair takes no writes: none of its followers is alive`,
        });
        const read = await cluster.postgres(via).query('SELECT count(*) FROM pair WHERE id = $1', [keys[0]]);
        expect(read.rows).toEqual([{ count: '0' }]);
        for (const key of healthy.splice(0, 20)) await insertVia(via, key);
        expect(performance.now() - beganMs).toBeLessThan(NO_HANG_MS);
      }
      // The writers can be in a deadlock with it, which is another answer to it.
      await eventually(async () =>
        expect(cluster.postgres(home).query('TRUNCATE pair')).rejects.toMatchObject({ code: 'TD005' }),
      );
    } finally {
      thaw();
    }
    const thawedMs = performance.now();
    await eventually(async () => expect((await shown())?.durability).toBe('quorum'));
    await eventually(async () => expect((await write(other)).rowCount).toBe(1));
    await Promise.all(writers.map((w) => w.stop()));
    for (const { acknowledged, failures } of writers) {
      const ended = failures.map((f) => f.code);
      expect(acknowledged.filter(({ atMs }) => atMs > frozenMs && atMs < thawedMs)).toEqual([]);
      expect(['closed', '08006'], 'what waited has been ended').toContain(ended[0]);
      expect(ended.slice(1).filter((code) => code !== 'TD005')).toEqual([]);
      await expectOnFollower(
        lost,
        acknowledged.map(({ key }) => key),
      );
    }
    await cluster.admin({ do: 'setting-set', key: 'quorum_lost', value: 'wait' });
    await expectListsAsWanted();
    await expectReplicasEqual(cluster);
    // They are off already; to drop them takes a lock that may have to be asked for again.
    for (const node of nodes) await eventually(async () => expect(await refusalsOn(node), `node ${node}`).toEqual([]));
    expect(await cluster.admin({ do: 'doctor' })).toEqual({ findings: [], unreachable: [], twins: [] });
  });
});

interface Followed {
  tid: number;
  pid: number;
  follower: number;
}

/** A partition of a table with two replicas. */
async function ledAndFollowed(of: string, leader: number): Promise<Followed> {
  const rows = (await partitions()).filter((r) => r.table === of);
  const led = rows.filter((r) => r.role === 'leader' && r.node === leader).map((r) => r.pid);
  const found = rows.find((r) => r.role === 'follower' && led.includes(r.pid));
  const { tid, pid, node: follower } = must(found, `partition of ${of} that node ${leader} leads`);
  return { tid, pid, follower };
}

async function expectOnFollower({ tid, pid, follower }: Followed, keys: readonly number[]): Promise<void> {
  const { rows } = await cluster.manager(follower).query(`SELECT id FROM tide_data.${partitionTable(tid, pid)}`);
  const there = new Set(rows.map((r) => Number(r.id)));
  expect(keys.filter((k) => !there.has(k))).toEqual([]);
}

async function refusalsOn(node: number): Promise<unknown[]> {
  const { rows } = await cluster
    .postgres(node)
    .query(`SELECT tgrelid::regclass::text AS name FROM pg_trigger WHERE tgname LIKE 'tide\\_refusal%'`);
  return rows;
}

describe('the setting durability', () => {
  it('async waits for nobody; quorum brings the lists back', async () => {
    await cluster.admin({ do: 'setting-set', key: 'durability', value: 'async' });
    await eventually(async () => {
      for (const node of nodes) expect(await quorumOf(node)).toEqual(NO_QUORUM);
    });
    expect((await partitions()).find((r) => r.role === 'leader')?.durability).toBe('async');
    await cluster.admin({ do: 'setting-set', key: 'durability', value: 'quorum' });
    await expectListsAsWanted();
    expect(await cluster.admin({ do: 'doctor' })).toEqual({ findings: [], unreachable: [], twins: [] });
  });
});
