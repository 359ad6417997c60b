import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { OperationResult } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import { whatIsWrong } from '../support/checks.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { NO_MOUNT, SmallDisk } from '../support/disk.ts';
import { freezeNode } from '../support/freeze.ts';
import { hold, untilEnded } from '../support/operations.ts';
import { LOAD_TABLE, Load, PARTITIONS } from './support/load.ts';

/**
 * Four nodes, three of them on small disks of their own that are filled while writers work: nobody's failed
 * write, no server that ends for want of room without its partitions being led elsewhere, everything whole
 * again once there is room.
 */
const MANAGER = 1;
const SOURCE = 2;
const FOLLOWER = 3;
const TARGET = 4;
const MIB = 1 << 20;
/**
 * A quarter of the source's disk, as a power of two, is what PostgreSQL lets a slot keep there; a move half
 * of that.
 */
const MOVE_CAP = 64 * MIB;
const ALL = Array.from({ length: PARTITIONS }, (_, pid) => pid);

const probe = SmallDisk.mount(1);
probe?.unmount();
if (probe === null) process.stderr.write(`${NO_MOUNT}\n`);
const disks = new Map<number, SmallDisk>();
let cluster: LocalCluster;
let load: Load;
let big = 0;

describe.skipIf(probe === null)('disks that run full', () => {
  beforeAll(async () => {
    cluster = await LocalCluster.create();
    for (const [node, megabytes] of [
      [MANAGER, 600],
      [SOURCE, 700],
      [FOLLOWER, 0],
      [TARGET, 500],
    ] as const) {
      if (megabytes > 0) {
        const disk = must(SmallDisk.mount(megabytes) ?? undefined, 'disk');
        disks.set(node, disk);
        disk.linkFrom(`${cluster.dir}/node-${node}`);
      }
      expect((await cluster.addNode({ flags: ['--min-nodes=1'] })).id).toBe(node);
    }
    await set('rebalance.auto', 'off');
    // With two replicas the death of a follower would hold up writers instead of growing the WAL.
    await set('quorum_lost', 'allow');
    await createTable(cluster, LOAD_TABLE, { partitions: PARTITIONS, replicas: 2 });
    big = (
      await createTable(cluster, 'CREATE TABLE big (id bigint PRIMARY KEY, padding text)', {
        partitions: 1,
        replicas: 2,
      })
    ).tid;
    await emptyTarget();
    await cluster.sql(SOURCE).query(
      `INSERT INTO big SELECT i, (SELECT string_agg(md5((i * 40 + k)::text), '') FROM generate_series(1, 30) k)
         FROM generate_series(1, 50000) i`,
    );
    await cluster.manager(TARGET).query(AWAIT_COPY);
    load = await Load.prepare(cluster, SOURCE);
    load.start([SOURCE, FOLLOWER]);
  });

  afterEach(() => {
    for (const disk of disks.values()) disk.clear();
  });

  afterAll(async () => {
    await load?.close();
    await cluster?.close();
    for (const disk of disks.values()) disk.unmount();
  });

  test('a target without room is waited for, and the copy goes on when there is some', async () => {
    const disk = diskOf(TARGET);
    // However long a slow machine takes, nobody writes as much as a copy may have its source keep.
    await load.stop();
    const writer = await hold(cluster.node(SOURCE).postgresPort, `INSERT INTO big VALUES (-1, 'held')`, 'tide');
    const age = () => writer.query<{ ms: number }>('SELECT extract(epoch FROM clock_timestamp() - now()) * 1000 AS ms');
    await expect.poll(async () => Number((await age()).rows[0]?.ms), { timeout: 5_000 }).toBeGreaterThan(1_100);
    const id = await addBig();
    await waitsFor(id, 'slot');
    disk.fill(10 * MIB);
    await diskSays(TARGET, 'full');
    await writer.query('ROLLBACK');
    await writer.end();
    const waiting = await waitsFor(id, 'disk');
    expect(waiting.step).toBe('copy-rows');
    expect(waiting.waitsFor?.text).toMatch(/^node 4 has \d(\.\d)? % of its disk left: the copy waits for room$/);
    disk.clear();
    const { status, error } = await untilEnded(cluster, id);
    expect({ status, error }).toEqual({ status: 'done', error: null });
    await removeBig();
    await expectWhole();
  });

  test('a target that runs full in the middle of a copy: the copy is taken back, nobody else suffers', async () => {
    const disk = diskOf(TARGET);
    const copying = stopCopy();
    const id = await addBig();
    const goOn = await copying;
    disk.fill();
    goOn();
    const failed = await untilEnded(cluster, id);
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'DISK_FULL' } });
    disk.clear();
    await diskSays(TARGET, 'ok');
    expect(await copySlots()).toEqual([]);
    await expectWhole();
  });

  test('a target that freezes while its source keeps WAL for it: the copy goes, not the source', async () => {
    const copying = stopCopy();
    const id = await addBig();
    await copying;
    const thaw = freezeNode(cluster, TARGET);
    try {
      const usedBytes = diskOf(SOURCE).usedBytes;
      // More than a move may cost, and less than a follower may.
      await writeWal(SOURCE, 1.25 * MOVE_CAP);
      await expect
        .poll(async () => (await cluster.admin({ do: 'op-show', id })).error?.code, { ...POLL, timeout: 40_000 })
        .toBe('WAL_RETAINED');
      // The target has not answered yet, and its slot is gone: what was kept for it comes back.
      await expect.poll(copySlots, POLL).toEqual([]);
      await expect.poll(() => diskOf(SOURCE).usedBytes - usedBytes, POLL).toBeLessThan(2 * MOVE_CAP);
    } finally {
      thaw();
    }
    const failed = await untilEnded(cluster, id);
    expect(failed.status).toBe('failed');
    await expectWhole();
  });

  test('a follower that is away for too long is cut before the disk of its leader is in danger, and copied again when it is back', async () => {
    load.expect({ through: [FOLLOWER], pids: ALL });
    await cluster.node(FOLLOWER).kill();
    cluster.node(FOLLOWER).killPostgres();
    await expect.poll(async () => (await condition(FOLLOWER)) === 'out', POLL).toBe(true);
    await expect
      .poll(async () => (await partitions()).some((r) => r.node === FOLLOWER && r.role === 'leader'), POLL)
      .toBe(false);
    // What began before others led may still fail; what begins now may not.
    await load.stop();
    load.expect(null);
    load.start([SOURCE]);
    const statementsBefore = load.statements;
    // How much is kept by then is the writers' pace times a look of the manager or two: what counts is the
    // room that is left.
    expect(await writeUntilCut(FOLLOWER)).toBeGreaterThan(diskOf(SOURCE).totalBytes / 4);
    const cut = async () => (await events()).findLast((e) => e.kind === 'stream-cut')?.text;
    await expect.poll(cut, POLL).toMatch(/^node 2 keeps no more WAL for node 3, which is [\d.]+ MiB behind/);
    const cutOff = (await partitions()).filter((r) => r.node === FOLLOWER && r.state === 'stale');
    expect(cutOff.length).toBeGreaterThan(0);
    expect(load.statements).toBeGreaterThan(statementsBefore + 20);
    await cluster.node(FOLLOWER).restart();
    await repaired();
    await expectWhole();
  });

  test('a slot that PostgreSQL has given up: its receiver is copied again', async () => {
    const followed = (await partitions()).filter((r) => r.role === 'follower' && r.node === FOLLOWER);
    expect(followed.length).toBeGreaterThan(0);
    // Commits wait for a live follower that does not answer, until it is one no more.
    load.expect({ through: [], pids: ALL });
    const thaw = await freezeStream(SOURCE, FOLLOWER);
    const isCut = async () =>
      (await events()).some((e) => e.text.startsWith('node 2 has no WAL any more for what node 3 has missed'));
    try {
      await cluster.manager(SOURCE).query(`ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'`);
      await cluster.manager(SOURCE).query('SELECT pg_reload_conf()');
      await writeWal(SOURCE, 2 * MOVE_CAP);
      const lost = async () => {
        await cluster.manager(SOURCE).query('CHECKPOINT');
        return isCut();
      };
      await expect.poll(lost, POLL).toBe(true);
      // Its worker stands still, and no writer waits for it any more.
      await cluster.sql(SOURCE).query('UPDATE big SET padding = padding WHERE id = 1');
    } finally {
      thaw();
      await cluster.manager(SOURCE).query('ALTER SYSTEM RESET max_slot_wal_keep_size');
      await cluster.manager(SOURCE).query('SELECT pg_reload_conf()');
    }
    await repaired();
    await drained();
    await expectWhole();
  });

  test('the disk of the manager itself runs full: it goes on managing, others lead what its server led', async () => {
    const disk = diskOf(MANAGER);
    const led = (await partitions()).filter((r) => r.node === MANAGER && r.role === 'leader' && r.table === 'load');
    expect(led.length).toBeGreaterThan(0);
    const processId = must(cluster.node(MANAGER).processId ?? undefined, 'process of the manager');
    load.expect({ through: [], pids: ALL });
    disk.fill();
    await diskSays(MANAGER, 'full');
    // Its server ends for want of room, and finds none to start in: the failover is journaled all the same.
    const away = async () => {
      disk.fill();
      await writeWal(MANAGER, 32 * MIB).catch(() => {});
      return (await partitions()).filter((r) => r.node === MANAGER && r.role === 'leader' && r.table === 'load').length;
    };
    await expect.poll(away, { ...POLL, timeout: 40_000 }).toBe(0);
    expect(cluster.node(MANAGER).processId).toBe(processId);
    await set('move.max_pause', '210');
    disk.clear();
    await expect.poll(() => condition(MANAGER), { ...POLL, timeout: 40_000 }).toBe('live');
    await repaired();
    await drained();
    expect(cluster.node(MANAGER).processId).toBe(processId);
    await expectWhole();
  });

  test('nothing that was acknowledged is lost, and nothing failed that no fault excuses', async () => {
    await load.stop();
    expect(load.acknowledged).toBeGreaterThan(200);
    expect(load.failures.splice(0)).toEqual([]);
    expect(await load.verify(SOURCE)).toEqual([]);
  });
});

const POLL = { timeout: 20_000, interval: 50 };

const diskOf = (node: number) => must(disks.get(node), `disk of node ${node}`);
const set = (key: string, value: string) => cluster.admin({ do: 'setting-set', key, value });
const partitions = () => cluster.admin({ do: 'partition-ls' });
const condition = async (node: number) =>
  (await cluster.admin({ do: 'node-status' })).find((r) => r.id === node)?.condition;

const events = () => cluster.admin({ do: 'events', after: 0, limit: 1000 });

/** Statements that began under a fault have ended; from here on none may fail. */
async function drained(): Promise<void> {
  await load.stop();
  load.expect(null);
}

async function expectWhole(): Promise<void> {
  await load.stop();
  expect(load.failures.splice(0)).toEqual([]);
  expect(await whatIsWrong(cluster, [MANAGER, SOURCE, FOLLOWER, TARGET])).toEqual([]);
  load.start([SOURCE, FOLLOWER]);
}

/** Every replica is in step again, and nothing runs any more. */
async function repaired(): Promise<void> {
  const due = async () => [
    ...(await partitions())
      .filter((r) => r.state !== 'ready')
      .map((r) => `${r.table} ${r.pid} on ${r.node} ${r.state}`),
    ...(await cluster.admin({ do: 'op-ls', all: true })).filter((o) => o.endedAt === null).map((o) => o.subject),
  ];
  await expect.poll(due, { timeout: 60_000, interval: 200 }).toEqual([]);
}

/** Writes that concern nobody, and have to be kept for everybody who has not read them. */
async function writeWal(node: number, bytes: number): Promise<void> {
  for (let written = 0; written < bytes; written += 4 * MIB) {
    await cluster
      .postgres(node)
      .query(`SELECT pg_logical_emit_message(false, 'test', repeat('x', 1048576)) FROM generate_series(1, 4)`);
  }
}

/**
 * Writes at some 20 MB/s until the source keeps nothing for a receiver any more. Gives the least room that
 * its disk had, bytes.
 */
async function writeUntilCut(receiver: number): Promise<number> {
  const disk = diskOf(SOURCE);
  let freeBytes = disk.freeBytes;
  for (let round = 0; round < 100 && (await slotsFor(receiver)).length > 0; round++) {
    await writeWal(SOURCE, 4 * MIB);
    freeBytes = Math.min(freeBytes, disk.freeBytes);
    await sleep(200);
  }
  expect(await slotsFor(receiver)).toEqual([]);
  return freeBytes;
}

async function slotsFor(receiver: number): Promise<string[]> {
  const { rows } = await cluster
    .postgres(SOURCE)
    .query<{ name: string }>('SELECT slot_name AS name FROM pg_replication_slots WHERE slot_name = $1', [
      `tide_${SOURCE}_${receiver}`,
    ]);
  return rows.map((r) => r.name);
}

/** Stops the worker that applies a stream, and nothing else of the node. */
async function freezeStream(from: number, to: number): Promise<() => void> {
  const { rows } = await cluster
    .postgres(to)
    .query<{ pid: number }>(
      `SELECT pid FROM pg_stat_subscription WHERE subname = $1 AND worker_type = 'apply' AND pid IS NOT NULL`,
      [`tide_${from}_${to}`],
    );
  const pid = must(rows[0], 'apply worker').pid;
  process.kill(pid, 'SIGSTOP');
  return () => void process.kill(pid, 'SIGCONT');
}

/** Everything away from the target, `big` led by the source. */
async function emptyTarget(): Promise<void> {
  const run = async (started: Promise<{ operations: number[] }>) => {
    for (const id of (await started).operations) await cluster.waitForOperation(id);
  };
  for (const row of await partitions()) {
    const held = (await partitions()).filter((r) => r.tid === row.tid && r.pid === row.pid).map((r) => r.node);
    const { table, pid } = row;
    if (!held.includes(TARGET)) continue;
    const to = must(
      [SOURCE, FOLLOWER, MANAGER].find((n) => !held.includes(n)),
      'free node',
    );
    await run(cluster.admin({ do: 'partition-migrate', table, pids: [pid], from: TARGET, to }));
  }
  const held = (await partitions()).filter((r) => r.table === 'big');
  if (!held.some((r) => r.node === SOURCE))
    await run(
      cluster.admin({ do: 'partition-migrate', table: 'big', pids: [0], from: must(held[0], 'row').node, to: SOURCE }),
    );
  if (!(await partitions()).some((r) => r.table === 'big' && r.node === SOURCE && r.role === 'leader'))
    await run(cluster.admin({ do: 'partition-change-leader', table: 'big', pid: 0, to: SOURCE }));
}

async function addBig(): Promise<number> {
  const { operations } = await cluster.admin({ do: 'partition-add-replica', table: 'big', pids: [0], node: TARGET });
  return must(operations[0], 'operation');
}

async function removeBig(): Promise<void> {
  const { operations } = await cluster.admin({ do: 'partition-del-replica', table: 'big', pids: [0], node: TARGET });
  await cluster.waitForOperation(must(operations[0], 'operation'));
}

async function waitsFor(id: number, kind: string): Promise<OperationResult> {
  const look = () => cluster.admin({ do: 'op-show', id });
  await expect.poll(async () => (await look()).waitsFor?.kind, { timeout: 20_000, interval: 20 }).toBe(kind);
  return look();
}

async function diskSays(node: number, state: string): Promise<void> {
  const said = async () => (await cluster.admin({ do: 'node-status' })).find((r) => r.id === node)?.disk;
  await expect.poll(said, { timeout: 10_000, interval: 50 }).toBe(state);
}

/** Stops the worker that copies `big` to the target, in the middle of it. Gives what lets it go on. */
async function stopCopy(): Promise<() => void> {
  const { rows } = await cluster
    .manager(TARGET)
    .query<{ pid: number }>('SELECT public.await_copy($1) AS pid', [`t${big}_p0`]);
  const { pid } = must(rows[0], 'copying worker');
  process.kill(pid, 'SIGSTOP');
  return () => void process.kill(pid, 'SIGCONT');
}

const AWAIT_COPY = `
  CREATE FUNCTION public.await_copy(name text) RETURNS int LANGUAGE plpgsql AS $$
  DECLARE found int;
  BEGIN
    FOR try IN 1 .. 10000 LOOP
      PERFORM pg_stat_clear_snapshot();
      SELECT p.pid INTO found FROM pg_stat_progress_copy p JOIN pg_class c ON c.oid = p.relid
       WHERE c.relname = name AND p.tuples_processed > 100;
      EXIT WHEN found IS NOT NULL;
      PERFORM pg_sleep(0.001);
    END LOOP;
    RETURN found;
  END $$`;

async function copySlots(): Promise<string[]> {
  const { rows } = await cluster
    .postgres(SOURCE)
    .query<{ name: string }>(
      String.raw`SELECT slot_name AS name FROM pg_replication_slots WHERE slot_name LIKE 'pg\_%'`,
    );
  return rows.map((r) => r.name);
}
