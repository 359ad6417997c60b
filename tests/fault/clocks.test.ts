import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import type { PartitionRow } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import { type AddNodeOptions, LocalCluster } from '../../src/local/local-cluster.ts';
import { monotonicMs, readLeaseNote } from '../../src/node/node-lease.ts';
import { whatIsWrong } from '../support/checks.ts';
import { ETCD, EtcdCluster } from '../support/etcd.ts';
import { matrixTest } from '../support/matrix.ts';
import { hold, untilStep } from '../support/operations.ts';
import { FAKETIME, WallClock } from '../support/wall-clock.ts';
import { createHistoryTable, Historians } from './support/historians.ts';
import { type Operation, whatIsWrongWith } from './support/history.ts';

/**
 * Clocks that are set by hours while the processes of a node live: its own, its PostgreSQL and all sessions
 * of that. Who is alive, who leads, and what is late must not depend on it.
 */
const HOUR = 3_600;

/** A server that waits for its clock to be where it was would do so for an hour. */
vi.setConfig({ testTimeout: 60_000 });

let cluster: LocalCluster;
let clocks: Map<number, WallClock>;
let historians: Historians | null = null;
let firstEvent = 0;

const report = (text: string) => process.stderr.write(`clocks: ${text}\n`);

async function startCluster(count: number, replicas: number, options: AddNodeOptions = {}): Promise<void> {
  cluster = await LocalCluster.create();
  clocks = new Map();
  for (let id = 1; id <= count; id++) {
    const clock = new WallClock(cluster.dir, String(id));
    await cluster.addNode({ ...options, within: clock.within });
    clocks.set(id, clock);
  }
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  await createHistoryTable(cluster, replicas);
}

const nodes = () => cluster.nodes.map((n) => n.id);
const rows = () => cluster.admin({ do: 'partition-ls' });
const leaders = async () => (await rows()).filter((r) => r.role === 'leader');
const ledBy = async (node: number) => new Set((await leaders()).filter((r) => r.node === node).map((r) => r.pid));
const replicasOn = async (node: number) => (await rows()).filter((r) => r.node === node).map((r) => r.pid);
const condition = async (node: number) =>
  (await cluster.admin({ do: 'node-status' })).find((r) => r.id === node)?.condition;
const events = async () => cluster.admin({ do: 'events', after: firstEvent, limit: 10_000 });

/** Clients on every node; what is said of nodes from now on. */
async function begin(manager: number): Promise<Historians> {
  firstEvent = Math.max(0, ...(await cluster.admin({ do: 'events', limit: 10_000 })).map((e) => e.seq));
  historians = await Historians.start(cluster, { manager, nodes: nodes(), perNode: 6 });
  await untilWritten(historians);
  return historians;
}

/**
 * Hours by which a node's own process (the date in its answers) and its PostgreSQL differ from the true time.
 */
async function hoursOff(node: number): Promise<number[]> {
  const { httpAddress } = cluster.node(node);
  const answer = await fetch(`http://${httpAddress}/`, { signal: AbortSignal.timeout(2_000) });
  const { rows: times } = await cluster
    .postgres(node)
    .query<{ ms: number }>('SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS ms');
  const said = [Date.parse(answer.headers.get('date') ?? ''), must(times[0], 'time').ms];
  return said.map((ms) => Math.round(((ms - Date.now()) / 1_000 / HOUR) * 100) / 100 + 0);
}

/** Sets a node's clock, and returns when its process and its PostgreSQL go by it. */
async function jump(node: number, hours: number): Promise<void> {
  must(clocks.get(node), 'clock').set(hours * HOUR);
  await expect.poll(() => hoursOff(node).catch(() => []), { timeout: 10_000, interval: 50 }).toEqual([hours, hours]);
}

/** So many writes are asked for from now on, and acknowledged. */
async function untilWritten(seen: Historians, which: (o: Operation) => boolean = () => true, count = 20) {
  const sinceMs = performance.now();
  await expect
    .poll(() => seen.acknowledged(sinceMs, which).length, { timeout: 20_000, interval: 50 })
    .toBeGreaterThan(count);
}

/** An operation on its way: where it comes to, and what its percentage was. */
function follow(id: number) {
  const percents: number[] = [];
  const ended = cluster.waitForOperation(id, (o) => percents.push(o.percent), 60_000);
  ended.catch(() => {});
  return {
    async done(): Promise<void> {
      await ended;
      expect(percents).toEqual([...percents].sort((a, b) => a - b));
    },
  };
}

/** Who leads most, but for some. */
async function busiest(...except: number[]): Promise<number> {
  const counts = new Map<number, number>();
  for (const { node } of await leaders()) if (!except.includes(node)) counts.set(node, (counts.get(node) ?? 0) + 1);
  return must([...counts].sort((a, b) => b[1] - a[1])[0], 'a node that leads')[0];
}

/** A partition that a node leads, and who could have it as well. */
async function movable(from: number): Promise<{ row: PartitionRow; to: number }> {
  const all = await rows();
  const row = must(
    all.find((r) => r.role === 'leader' && r.node === from),
    'a leader',
  );
  const taken = all.filter((r) => r.pid === row.pid).map((r) => r.node);
  const to = nodes().find((n) => !taken.includes(n));
  return { row, to: must(to, 'a node without it') };
}

async function beginMove({ row, to }: { row: PartitionRow; to: number }): Promise<number> {
  const { operations } = await cluster.admin({
    do: 'partition-migrate',
    table: 'history',
    pids: [row.pid],
    from: row.node,
    to,
  });
  return must(operations[0], 'operation');
}

const REPLACED = [
  'failover',
  'node-out',
  'node-down',
  'node-silent',
  'node-unproven',
  'node-refused',
  'replicas-given-up',
];

/** What has been said of nodes that are out, but for one that is. */
async function replaced(except: number | null = null): Promise<string[]> {
  const told = (await events()).filter((e) => REPLACED.includes(e.kind));
  return told.filter((e) => e.node !== except || e.kind === 'replicas-given-up').map((e) => e.text);
}

/** Ends every stream to some nodes at its sender; gives how many. */
async function breakStreamsTo(receivers: readonly number[]): Promise<number> {
  const names = receivers.flatMap((to) => nodes().map((from) => `tide_${from}_${to}`));
  const sql = 'SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = ANY($1)';
  const ended = await Promise.all(nodes().map((n) => cluster.manager(n).query(sql, [names])));
  return ended.reduce((sum, { rowCount }) => sum + (rowCount ?? 0), 0);
}

/** Until everything rests; then what the clients saw, with a last look at every key through two nodes. */
async function expectRight(seen: Historians): Promise<void> {
  await seen.stop();
  await seen.readAll(2);
  await seen.readAll(3);
  expect(whatIsWrongWith(seen.history, seen.epochs)).toEqual([]);
  const unended = async () =>
    (await cluster.admin({ do: 'op-ls', all: true }))
      .filter((o) => o.endedAt === null)
      .map((o) => `${o.kind} ${o.subject} ${o.step} ${o.waitsFor?.text}`);
  const unrest = async () => {
    const before = await unended();
    return before.length > 0 ? before : await whatIsWrong(cluster, nodes());
  };
  await expect.poll(unrest, { timeout: 40_000, interval: 200 }).toEqual([]);
  const acknowledged = seen.acknowledged(0).length;
  report(`${seen.history.length} operations, ${acknowledged} writes acknowledged`);
  expect(acknowledged).toBeGreaterThan(100);
}

afterEach(async () => {
  for (const clock of clocks?.values() ?? []) clock.set(0);
  await historians?.stop();
});

describe.skipIf(FAKETIME === null)('clocks that jump', () => {
  const MANAGER = 1;
  beforeAll(() => startCluster(4, 3));
  afterAll(() => cluster?.close());

  test('the clock of the manager jumps back and on: nobody is replaced, and operations end', async () => {
    const seen = await begin(MANAGER);
    const led = await ledBy(MANAGER);
    const move = await movable(await busiest(MANAGER));
    const id = await beginMove(move);
    const followed = follow(id);
    await jump(MANAGER, -2);
    await untilWritten(seen, (o) => led.has(o.pid));
    await followed.done();
    expect(await replicasOn(move.to)).toContain(move.row.pid);
    await jump(MANAGER, 0);
    await untilWritten(seen, (o) => led.has(o.pid));
    expect(await replaced()).toEqual([]);
    await expectRight(seen);
  });

  matrixTest('the clock of a leader jumps on and back while one of its partitions waits for its swing', async () => {
    const seen = await begin(MANAGER);
    const leader = await busiest(MANAGER);
    const move = await movable(leader);
    const { tid, pid } = move.row;
    const held = await hold(cluster.node(leader).postgresPort, `SELECT count(*) FROM tide_hinge.t${tid}_p${pid}`);
    const id = await beginMove(move);
    const followed = follow(id);
    await expect
      .poll(() => cluster.admin({ do: 'op-show', id }).then((o) => o.step), { timeout: 20_000, interval: 20 })
      .toBe('swing');
    const led = await ledBy(leader);
    for (const hours of [2, 0]) {
      await jump(leader, hours);
      await untilWritten(seen, (o) => led.has(o.pid));
      expect((await untilStep(cluster, id, 'swing')).waitsFor).not.toBeNull();
    }
    await held.end();
    await followed.done();
    await untilWritten(seen, (o) => led.has(o.pid) && o.pid !== pid);
    expect(await replaced()).toEqual([]);
    await expectRight(seen);
  });

  matrixTest(
    'a node dies while the clock of the manager is an hour behind, and comes back when it is one ahead',
    async () => {
      const victim = await busiest(MANAGER);
      const led = await ledBy(victim);
      const seen = await begin(MANAGER);
      await jump(MANAGER, -1);
      const had = await replicasOn(victim);
      const killed = cluster.node(victim).kill();
      cluster.node(victim).killPostgres();
      await killed;
      const killedMs = performance.now();
      await expect.poll(async () => (await ledBy(victim)).size, { timeout: 15_000, interval: 50 }).toBe(0);
      await untilWritten(seen, (o) => led.has(o.pid));
      report(`others lead and are written to ${Math.round(performance.now() - killedMs)} ms after kill -9`);
      // By more than node.dead_after, which is ten minutes.
      await jump(MANAGER, 1);
      await cluster.node(victim).restart();
      await expect.poll(() => condition(victim), { timeout: 30_000, interval: 50 }).toBe('live');
      expect(await replicasOn(victim)).toEqual(had);
      expect(await replaced(victim)).toEqual([]);
      await jump(MANAGER, 0);
      await expectRight(seen);
    },
  );

  test('the clocks of all who follow are set back, and their streams break: what they receive is acknowledged', async () => {
    const idle = nodes().slice(-2);
    for (const { pid, node } of await leaders()) {
      if (!idle.includes(node)) continue;
      const heir = (await rows()).find((r) => r.pid === pid && r.role === 'follower' && !idle.includes(r.node));
      const to = must(heir, 'another follower').node;
      const { operations } = await cluster.admin({ do: 'partition-change-leader', table: 'history', pid, to });
      await cluster.waitForOperation(must(operations[0], 'operation'));
    }
    const behind = new Set((await leaders()).map((r) => r.pid));
    for (const { pid, role, node } of await rows()) if (role === 'follower' && !idle.includes(node)) behind.delete(pid);
    expect(behind.size).toBeGreaterThan(0);
    const seen = await begin(MANAGER);
    for (const node of idle) await jump(node, -1);
    await untilWritten(seen, (o) => behind.has(o.pid), 60);
    expect(await breakStreamsTo(idle)).toBeGreaterThan(0);
    // PostgreSQL would begin them again in an hour.
    const isRenewed = async () => {
      const renewed = (await events()).filter((e) => e.kind === 'stream-renewed').map((e) => e.node);
      return idle.every((n) => renewed.includes(n));
    };
    await expect.poll(isRenewed, { timeout: 20_000, interval: 100 }).toBe(true);
    await untilWritten(seen, (o) => behind.has(o.pid), 60);
    expect(await replaced()).toEqual([]);
    await expectRight(seen);
  });
});

describe.skipIf(FAKETIME === null || ETCD === null)('clocks that jump, with leases', () => {
  const LEASE_MS = 6_000;
  let etcd: EtcdCluster;

  beforeAll(async () => {
    etcd = await EtcdCluster.start(1);
    await startCluster(3, 2, { flags: [`--meta=${etcd.url('/clocks')}`] });
    await cluster.admin({ do: 'setting-set', key: 'node.lease', value: String(LEASE_MS / 1_000) });
  });
  afterAll(async () => {
    await cluster?.close();
    await etcd?.close();
  });

  const manager = async () =>
    must(
      (await cluster.admin({ do: 'manager-ls' })).managers.find((m) => m.role === 'leader'),
      'manager',
    ).node;
  const leasedUntilMs = async (node: number) =>
    (await readLeaseNote(join(cluster.node(node).store, 'lease')))?.untilMs ?? 0;

  test('a node whose clock jumps neither loses its lease nor serves beyond it', async () => {
    const managing = await manager();
    const victim = managing === 3 ? 2 : 3;
    // Of the length that was set.
    await expect
      .poll(async () => (await leasedUntilMs(victim)) - monotonicMs(), { timeout: 15_000, interval: 50 })
      .toBeLessThan(LEASE_MS / 2);
    const led = await ledBy(victim);
    expect(led.size).toBeGreaterThan(0);
    const seen = await begin(managing);
    const own = (o: Operation) => led.has(o.pid) && o.by === victim && o.node === victim;
    for (const hours of [1, -1]) {
      const untilMs = await leasedUntilMs(victim);
      await jump(victim, hours);
      // Longer than the lease that it had when its clock jumped.
      await expect
        .poll(() => monotonicMs() > untilMs && leasedUntilMs(victim), { timeout: 10_000, interval: 50 })
        .toBeGreaterThan(untilMs);
      await untilWritten(seen, own);
    }
    const log = readFileSync(join(cluster.node(victim).store, 'logs', 'node.log'), 'utf8');
    expect(log).not.toContain('has lost its lease');
    expect(await replaced()).toEqual([]);
    // Its process is frozen, its PostgreSQL is not, and by its clock the lease has an hour more.
    must(clocks.get(victim), 'clock').set(-2 * HOUR);
    const untilMs = await leasedUntilMs(victim);
    await cluster.node(victim).kill('SIGSTOP');
    const frozenMs = performance.now();
    await expect.poll(async () => (await ledBy(victim)).size, { timeout: 30_000, interval: 20 }).toBe(0);
    const othersLeadMs = performance.now();
    await untilWritten(seen, (o) => led.has(o.pid));
    await cluster.node(victim).kill('SIGCONT');
    const last = seen.history.filter((o) => own(o) && o.outcome === 'ok' && o.invokedMs < othersLeadMs);
    const lastMs = Math.max(...last.map((o) => o.endedMs));
    report(
      `frozen with its clock set back, lease of ${LEASE_MS} ms: last answer after ${Math.round(lastMs - frozenMs)} ms, others led after ${Math.round(othersLeadMs - frozenMs)} ms`,
    );
    expect(lastMs).toBeGreaterThan(frozenMs);
    expect(lastMs).toBeLessThan(othersLeadMs);
    expect(untilMs).toBeGreaterThan(0);
    await jump(victim, 0);
    await expect.poll(() => condition(victim), { timeout: 40_000, interval: 100 }).toBe('live');
    await expectRight(seen);
  });
});
