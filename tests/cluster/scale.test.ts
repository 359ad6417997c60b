import { rm } from 'node:fs/promises';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OperationRow, PlanResult } from '../../src/api/results.ts';
import { partitionTable } from '../../src/catalog/names.ts';
import { must } from '../../src/core/assert.ts';
import { LocalCluster } from '../support/cluster.ts';
import { hold } from '../support/operations.ts';
import { Load } from './support/load.ts';
import { eventually, expectNothingLost, expectReplicasEqual, expectSettled, startNodes } from './support/proof.ts';
import { tide } from './support/tide.ts';

/** The cluster grows and shrinks, under load, through the command line. */

const PARTITIONS = 6;
let cluster: LocalCluster;
let load: Load;
let newcomer: number;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  const nodes = await startNodes(cluster, 3);
  load = await Load.prepare(cluster, {
    table: 'acct',
    nodes,
    partitions: PARTITIONS,
    replicas: 2,
    writers: 2,
    readers: 1,
  });
  load.start();
});
afterAll(async () => {
  await load?.stop();
  await cluster?.close();
});

/** `4: leader 1, on 1 3`: who holds each partition. */
async function placement(): Promise<string[]> {
  const rows = await cluster.admin({ do: 'partition-ls', table: 'acct' });
  return Array.from({ length: PARTITIONS }, (_, pid) => {
    const here = rows.filter((r) => r.pid === pid);
    const nodes = here.map((r) => r.node).sort((a, b) => a - b);
    return `${pid}: leader ${here.find((r) => r.role === 'leader')?.node}, on ${nodes.join(' ')}`;
  });
}

async function statusOf(id: number) {
  return (await cluster.admin({ do: 'node-status' })).find((n) => n.id === id);
}

async function calm(): Promise<void> {
  await eventually(async () => {
    const all = await cluster.admin({ do: 'op-ls', all: true });
    expect(all.filter((o) => o.endedAt === null)).toEqual([]);
    const { moves } = await cluster.admin({ do: 'plan', rebalance: true });
    expect(moves).toEqual([]);
  }, 40_000);
}

async function refused(code: string, ...args: string[]): Promise<void> {
  const before = await placement();
  const ran = await tide(cluster, 2, ...args);
  expect(ran, args.join(' ')).toMatchObject({ status: 1, stdout: '' });
  expect(ran.stderr).toMatch(new RegExp(`^ERROR: .+\\nhint: .+\\ncode: ${code}\\n(  .+\\n)*$`, 's'));
  expect(await placement()).toEqual(before);
}

/**
 * A transaction for which a partition waits that has yet to leave the nodes: all of them have not left
 * before.
 */
async function holdLastOf(nodes: readonly number[], before: readonly string[]): Promise<pg.Client> {
  const there = await placement();
  const isThere = (line: string) =>
    nodes.some((node) => line.slice(line.indexOf('on ')).split(' ').includes(`${node}`));
  const pid = there.findLastIndex((line, at) => line === before[at] && isThere(line));
  const leader = Number(/leader (\d+)/.exec(must(there[pid], 'a partition that has yet to leave'))?.[1]);
  const { rows } = await cluster
    .manager(leader)
    .query("SELECT tid FROM tide.distributed WHERE relid = 'acct'::regclass");
  const sql = `SELECT FROM tide_hinge.${partitionTable(rows[0].tid, pid)} LIMIT 1 FOR UPDATE`;
  return hold(cluster.node(leader).postgresPort, sql);
}

/** `acct 3: n4` of `acct 3: n4 → n1`. */
const source = (subject: string): string | undefined => subject.split(' →')[0];

describe('scale-out', () => {
  it('data comes by itself to nodes that join, and they serve', async () => {
    const joined = await Promise.all([cluster.addNode(), cluster.addNode()]);
    expect(joined.map((n) => n.id).sort()).toEqual([4, 5]);
    load.nodes.push(4, 5);
    await calm();
    for (const id of [1, 2, 3, 4, 5]) {
      const { replicas, leaders } = (await statusOf(id)) ?? {};
      expect(replicas, `replicas on node ${id}`).toBeGreaterThanOrEqual(2);
      expect(leaders, `leaders on node ${id}`).toBeGreaterThanOrEqual(1);
    }
    const moves = (await cluster.admin({ do: 'op-ls', all: true })).filter((o) => o.kind === 'move-replica');
    expect(moves.length).toBeGreaterThanOrEqual(4);
    expect(moves.every((o) => o.status === 'done')).toBe(true);
    const ran = await tide(cluster, 5, 'scale', 'out');
    expect(ran).toMatchObject({ status: 0 });
  });
});

describe('the preflight', () => {
  it('refuses with a code, a hint and status 1, and changes nothing', async () => {
    await refused('NODE_UNKNOWN', 'node', 'decommission', '9');
    await refused('BELOW_MIN_NODES', 'node', 'decommission', '3', '4', '5');
    await refused('TOO_FEW_NODES_FOR_REPLICAS', 'node', 'decommission', '2', '3', '4', '5', '--checks=skip');
    await refused('NODE_NOT_DECOMMISSIONING', 'node', 'recommission', '4');
    await refused('NODE_UNKNOWN', 'scale', 'in', '127.0.0.1:1');
    await refused('REPLICA_MISSING', 'partition', 'migrate', 'acct', '0-5', '4', '5');
    await tide(cluster, 2, 'settings', 'set', 'disk.margin', '90');
    await refused('NO_DISK_ROOM', 'node', 'decommission', '5');
    await tide(cluster, 2, 'settings', 'set', 'disk.margin', '10');
  });

  it('refuses where replicas have nowhere to go; drain takes leaders away and undrain gives them back', async () => {
    await tide(cluster, 1, 'settings', 'set', 'rebalance.auto', 'off');
    const pid = (await placement()).findIndex((p) => / on 1 /.test(p));
    const other = Number(/ on 1 (\d)/.exec((await placement())[pid] ?? '')?.[1]);
    if (other !== 5) {
      const ran = await tide(cluster, 1, 'partition', 'migrate', 'acct', String(pid), String(other), '5');
      expect(ran).toMatchObject({ status: 0 });
    }
    const replicas = (await statusOf(4))?.replicas;
    for (const id of ['2', '3', '4'])
      expect(await tide(cluster, 1, 'node', 'drain', id, '--allow-single-replica')).toMatchObject({ status: 0 });
    for (const p of await placement()) {
      // A partition that only draining nodes hold keeps its leader.
      if (/leader [234],/.test(p)) expect(p).toMatch(/on [234] [234]$/);
    }
    expect(await statusOf(4)).toMatchObject({ isDraining: true, replicas });
    // The only node that takes replicas now holds one of this partition already.
    await refused('NO_TARGET', 'node', 'decommission', '5');
    await refused('NODE_NOT_ELIGIBLE', 'partition', 'change-leader', 'acct', '0', '3');
    for (const id of ['2', '3', '4'])
      expect(await tide(cluster, 1, 'node', 'undrain', id)).toMatchObject({ status: 0 });
    await tide(cluster, 1, 'settings', 'set', 'rebalance.auto', 'on');
    await calm();
    for (const id of [2, 3, 4]) expect((await statusOf(id))?.leaders).toBeGreaterThanOrEqual(1);
  });

  it('dry runs change nothing', async () => {
    const [before, operations] = [await placement(), await cluster.admin({ do: 'op-ls', all: true })];
    const commands = [
      ['node', 'decommission', '5', '--dry-run'],
      ['scale', 'in', cluster.node(4).address, '--dry-run'],
      ['scale', 'out', '--dry-run'],
      ['plan', '--remove=4,5'],
      ['plan', '--add=2'],
    ];
    for (const args of commands) expect(await tide(cluster, 3, ...args), args.join(' ')).toMatchObject({ status: 0 });
    expect(await placement()).toEqual(before);
    expect(await cluster.admin({ do: 'op-ls', all: true })).toEqual(operations);
    expect((await statusOf(5))?.state).toBe('active');
  });
});

describe('scale-in', () => {
  it('is cancelled in the middle, and the cluster goes back to exactly the placement it had', async () => {
    await tide(cluster, 1, 'settings', 'set', 'move.concurrency', '1');
    const before = await placement();
    expect(await tide(cluster, 1, 'node', 'decommission', '4', '5', '--wait=none')).toMatchObject({ status: 0 });
    const already = await tide(cluster, 2, 'node', 'decommission', '4');
    expect(already).toMatchObject({ status: 1, stderr: expect.stringContaining('NODE_ALREADY_DECOMMISSIONING') });
    await eventually(async () => {
      expect((await placement()).filter((p, pid) => p !== before[pid]).length).toBeGreaterThanOrEqual(1);
    });
    const holder = await holdLastOf([4, 5], before);
    const alone = await tide(cluster, 1, 'node', 'recommission', '4');
    expect(alone).toMatchObject({ status: 1, stderr: expect.stringContaining('NODES_SHARE_OPERATION') });
    const back = tide(cluster, 1, 'node', 'recommission', '4', '5');
    await eventually(async () => {
      const all = await cluster.admin({ do: 'op-ls', all: true });
      const found = all.find((o) => o.kind === 'decommission' && o.endedAt === null);
      expect(found?.status ?? 'ended').not.toBe('running');
    });
    await holder.query('ROLLBACK');
    await holder.end();
    expect(await back).toMatchObject({ status: 0 });
    expect(await placement()).toEqual(before);
    for (const id of [4, 5]) expect((await statusOf(id))?.state).toBe('active');
    await tide(cluster, 1, 'settings', 'set', 'move.concurrency', '4');
    await calm();
    expect(await placement()).toEqual(before);
    expect(load.done.counts).toBeGreaterThan(20);
    // From here on sizes stand still: the next plan can be compared with what is done.
    await load.stop();
  });

  it('takes two nodes away as one plan, and does what the plan said', async () => {
    const planned = await tide(cluster, 1, 'plan', '--remove=4,5', '--format=json');
    const plan = JSON.parse(planned.stdout) as PlanResult;
    expect(plan.moves.length).toBeGreaterThanOrEqual(4);
    expect(plan.bytesMoved).toBeLessThanOrEqual(plan.bytesMinimal * 1.05);
    const ran = await tide(cluster, 1, 'node', 'decommission', '4', '5', '--format=json');
    expect(ran).toMatchObject({ status: 0 });
    const [operation] = JSON.parse(ran.stdout) as OperationRow[];
    const shown = await cluster.admin({ do: 'op-show', id: operation?.id ?? 0 });
    expect(shown).toMatchObject({ status: 'done', kind: 'decommission', subject: 'nodes 4, 5', percent: 100 });
    expect(shown.children.every((c) => c.status === 'done')).toBe(true);
    expect(shown.plan?.moves).toEqual(plan.moves);
    // A later move's target may differ between equals: the plan is made anew with every step, and copies are
    // smaller than their originals.
    expect(shown.children.map((c) => `${c.kind} ${source(c.subject)}`).sort()).toEqual(
      plan.moves.map((m) => `${m.kind} ${m.table} ${m.pid}: n${m.from}`).sort(),
    );
    for (const { node, replicasAfter } of plan.balance)
      expect((await statusOf(node))?.replicas, `replicas on node ${node}`).toBe(replicasAfter);
    for (const id of [4, 5])
      expect(await statusOf(id)).toMatchObject({ state: 'decommissioned', replicas: 0, leaders: 0 });
    expect((await placement()).filter((p) => /[45],| on .*[45]/.test(p))).toEqual([]);
  });

  it('a decommissioned node forwards until it is stopped, and does not start again; cleared, it joins under a new id', async () => {
    for (const id of [4, 5]) {
      const { rows } = await cluster.sql(id).query(`SELECT count(*)::int AS n FROM acct WHERE id <= 0`);
      expect(rows).toEqual([{ n: load.baseRows }]);
    }
    const { store } = cluster.node(5);
    for (const id of [4, 5]) await cluster.node(id).stop();
    await expect(cluster.node(5).restart()).rejects.toThrow(/STORE_DECOMMISSIONED/);
    await rm(store, { recursive: true });
    newcomer = (await cluster.addNode({ flags: [`--store=${store}`] })).id;
    expect(newcomer).toBe(6);
    await calm();
    expect((await statusOf(newcomer))?.replicas).toBeGreaterThanOrEqual(2);
  });

  it('is refused while a node is down', async () => {
    await cluster.node(newcomer).stop();
    try {
      // Others lead in its place: what moves after that is somebody's fault.
      await eventually(async () => expect(await statusOf(newcomer)).toMatchObject({ isLive: false, leaders: 0 }));
      await eventually(async () =>
        expect((await cluster.admin({ do: 'op-ls' })).filter((o) => o.endedAt === null)).toEqual([]),
      );
      await refused('NODE_NOT_ALIVE', 'node', 'decommission', '3');
    } finally {
      await cluster.node(newcomer).restart();
    }
  });

  it('lost nothing and left nothing behind', async () => {
    const nodes = [1, 2, 3, newcomer];
    await expectNothingLost(cluster, load, nodes);
    expect(await expectReplicasEqual(cluster)).toBe(PARTITIONS);
    await calm();
    await expectSettled(cluster, nodes);
  });
});
