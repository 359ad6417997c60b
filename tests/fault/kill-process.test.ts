import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { OperationResult, PartitionRow } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import { childrenOf } from '../../src/local/processes.ts';
import { whatIsWrong } from '../support/checks.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { played } from '../support/matrix.ts';
import { hold, untilEnded, untilStep } from '../support/operations.ts';
import { type Fault, LOAD_TABLE, Load, PARTITIONS } from './support/load.ts';

/** The manager's home: its partitions are left alone, it is killed as the manager. */
const MANAGER = 1;
const NODES = [1, 2, 3, 4];

interface Move {
  readonly pid: number;
  readonly source: number;
  readonly target: number;
}

let cluster: LocalCluster;
let load: Load;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (const _ of NODES) await cluster.addNode();
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  // How operations go on when a server is back; what becomes of them when others lead in its place is
  // failover.test.ts.
  await cluster.admin({ do: 'setting-set', key: 'auto_failover', value: 'off' });
  await createTable(cluster, LOAD_TABLE, { partitions: PARTITIONS, replicas: 2 });
  load = await Load.prepare(cluster, MANAGER);
});

afterAll(async () => {
  await load?.close();
  await cluster?.close();
});

const killNode = (node: (move: Move) => number) => ({
  victim: node,
  kill: (id: number) => cluster.node(id).kill(),
  revive: (id: number) => cluster.node(id).restart(),
  serverDies: false,
});
const killServer = (node: (move: Move) => number) => ({
  victim: node,
  kill: async (id: number) => {
    const pid = cluster.node(id).postgresProcessId;
    cluster.node(id).killPostgres();
    await expect.poll(() => cluster.node(id).postgresProcessId, { timeout: 5_000, interval: 20 }).not.toBe(pid);
  },
  /** Nobody's work but the node's own. */
  revive: async (id: number) => {
    await expect.poll(() => answers(id), { timeout: 30_000, interval: 100 }).toBe(true);
  },
  serverDies: true,
});

const manager = () => MANAGER;
const source = (move: Move) => move.source;
const target = (move: Move) => move.target;

const CASES = [
  { what: "the manager's process", step: 'copy-rows', ...killNode(manager) },
  { what: "the manager's process", step: 'swing', held: 'source', ...killNode(manager) },
  { what: "the manager's process", step: 'stop-streams', ...killNode(manager) },
  { what: "the source's process", step: 'catch-up', ...killNode(source) },
  { what: "the target's process", step: 'localise-target', held: 'target', ...killNode(target) },
  { what: "the source's postmaster", step: 'copy-rows', ...killServer(source) },
  { what: "the target's postmaster", step: 'copy-rows', ...killServer(target) },
  { what: "the target's postmaster", step: 'swing', held: 'source', ...killServer(target) },
  { what: "the target's postmaster", step: 'localise-target', held: 'target', ...killServer(target) },
] as const;

const IN_SHORT = ["the manager's process", "the source's process", "the target's postmaster"];
const IN_SHORT_AT = ['swing', 'catch-up'];

test.for(played(CASES, ({ what, step }) => IN_SHORT.includes(what) && IN_SHORT_AT.includes(step)))(
  'kill -9 of $what at $step',
  async (fault) => {
    const before = { statements: load.statements };
    load.start(NODES);
    await load.untilAcknowledged(20);

    const { move, id, hit, holder } = await moveUntil(fault.step, 'held' in fault ? fault.held : null);
    const victim = fault.victim(move);
    load.expect(await hurt(victim, fault.serverDies, move));
    await fault.kill(victim);
    await holder?.end().catch(() => {});
    await sleep(300);
    await fault.revive(victim);
    const ended = await untilEnded(cluster, id);
    load.expect(null);
    await load.untilAcknowledged(20);
    await load.stop();
    const failures = load.failures.splice(0);

    expect(hit.step).toBe(fault.step);
    expect(['done', 'cancelled', 'failed']).toContain(ended.status);
    expect(load.statements - before.statements).toBeGreaterThan(50);
    expect(await placement(move.pid)).toEqual(
      ended.status === 'done' ? { leader: move.target, gone: move.source } : { leader: move.source, gone: move.target },
    );
    expect(await whatIsWrong(cluster, NODES)).toEqual([]);
    for (const node of NODES) expect(await load.verify(node)).toEqual([]);
    expect(failures).toEqual([]);
  },
);

/**
 * Apply workers commit without waiting for the disk. Rows that have arrived before a swing have to be on the
 * new leader's disk, or it comes back from a crash without writes that clients were told of.
 */
test('what has arrived is on disk, though the WAL writer sleeps', async () => {
  const rows = await cluster.admin({ do: 'partition-ls' });
  const { node: from, pid } = must(
    rows.find((row) => row.role === 'leader' && row.node !== MANAGER),
    'leader',
  );
  const { node: to } = must(
    rows.find((row) => row.role === 'follower' && row.pid === pid),
    'follower',
  );
  const walWriter = walWriterOf(must(cluster.node(to).postgresProcessId, 'postmaster'));
  process.kill(walWriter, 'SIGSTOP');
  try {
    // As the manager's sessions: an ordinary commit would wait for that very disk.
    const writer = await cluster.manager(from).connect();
    await writer.query('SET synchronous_commit = local');
    const { rows: markers } = await writer.query<{ value: string }>(
      'UPDATE tide.marker SET value = value + 1 WHERE src = $1 RETURNING value',
      [from],
    );
    writer.release(true);
    const { rows: arrivals } = await cluster
      .manager(to)
      .query('SELECT tide.await_marker($1, $2, 5000) AS arrived', [from, markers[0]?.value]);
    const { rows: disk } = await cluster
      .manager(to)
      .query('SELECT pg_current_wal_flush_lsn() = pg_current_wal_insert_lsn() AS flushed');
    expect({ ...arrivals[0], ...disk[0] }).toEqual({ arrived: true, flushed: true });
  } finally {
    process.kill(walWriter, 'SIGCONT');
  }
});

interface Begun {
  readonly move: Move;
  readonly id: number;
  readonly hit: OperationResult;
  readonly holder: { end: () => Promise<void> } | null;
}

const TRIES = 10;

/** A move that is at `step`. What nothing holds there may have passed it before anybody has seen it. */
async function moveUntil(step: string, held: 'source' | 'target' | null): Promise<Begun> {
  for (let tries = 1; ; tries++) {
    const move = await chooseMove();
    const holder = held === null ? null : await holdBack(held, move);
    const { pid, source: from, target: to } = move;
    const { operations } = await cluster.admin({ do: 'partition-migrate', table: 'load', pids: [pid], from, to });
    const id = must(operations[0], 'operation');
    try {
      return { move, id, hit: await untilStep(cluster, id, step), holder };
    } catch (error) {
      if (holder !== null || tries === TRIES) throw error;
      await untilEnded(cluster, id);
    }
  }
}

/** A leader on one of the nodes 2 to 4, and another of those that has no replica of it. */
async function chooseMove(): Promise<Move> {
  const rows = await cluster.admin({ do: 'partition-ls' });
  const on = (pid: number) => rows.filter((row) => row.pid === pid).map((row) => row.node);
  const leader = must(
    rows.find((row) => row.role === 'leader' && row.node !== MANAGER && spare(on(row.pid)).length > 0),
    'a leader that can move',
  );
  return { pid: leader.pid, source: leader.node, target: must(spare(on(leader.pid))[0], 'target') };
}

function spare(taken: number[]): number[] {
  return NODES.filter((node) => node !== MANAGER && !taken.includes(node));
}

/**
 * Statements that a fault may break: those through the node, and where its server dies those on what it
 * leads.
 */
async function hurt(victim: number, serverDies: boolean, move: Move): Promise<Fault> {
  const rows = await cluster.admin({ do: 'partition-ls' });
  const led = rows.filter((row: PartitionRow) => row.role === 'leader' && row.node === victim).map((row) => row.pid);
  return { through: [victim], pids: serverDies ? [...new Set([...led, move.pid])] : [] };
}

/**
 * On the source a reader of the partition keeps the swing back, on the target an old snapshot what follows
 * the swing.
 */
async function holdBack(at: 'source' | 'target', move: Move): Promise<{ end: () => Promise<void> }> {
  const port = cluster.node(move[at]).postgresPort;
  return hold(port, `SELECT count(*) FROM ${at === 'source' ? `tide_hinge.t1_p${move.pid}` : 'pg_class'}`);
}

async function placement(pid: number): Promise<{ leader: number | undefined; gone: number | undefined }> {
  const rows = (await cluster.admin({ do: 'partition-ls' })).filter((row) => row.pid === pid);
  const nodes = rows.map((row) => row.node);
  return {
    leader: rows.find((row) => row.role === 'leader')?.node,
    gone: spare(nodes)[0],
  };
}

async function answers(node: number): Promise<boolean> {
  return cluster
    .postgres(node)
    .query('SELECT 1')
    .then(
      () => true,
      () => false,
    );
}

/** Linux: the server's processes name themselves. */
function walWriterOf(postmaster: number): number {
  return must(
    childrenOf(postmaster).find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('walwriter')),
    'WAL writer',
  );
}
