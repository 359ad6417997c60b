import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PartitionRow } from '../../src/api/results.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { Load } from './support/load.ts';
import {
  eventually,
  expectNothingLost,
  expectReplicasEqual,
  expectSettled,
  startNodes,
} from './support/proof.ts';
import { tide } from './support/tide.ts';

/** Drain, stop, start, undrain, node after node, under load through the others: an upgrade that nobody notices. */

/** Between the stop and the start, the load works without the node for this long. */
const AWAY_MS = 1_500;
/** A write that met the stop of a node waits for its silence to be noticed, 3 s; one that did not takes moments. */
const NO_WAIT_MS = 2_000;

let cluster: LocalCluster;
let nodes: number[];
let load: Load;

const partitions = () => cluster.admin({ do: 'partition-ls' });
const leadersIn = (rows: readonly PartitionRow[]) =>
  rows.filter((r) => r.role === 'leader').map((r) => `${r.table} ${r.pid} led by ${r.node}`);
const copiesIn = (rows: readonly PartitionRow[]) => rows.map((r) => `${r.table} ${r.pid} on ${r.node}`).sort();

async function run(...args: string[]): Promise<void> {
  const other = nodes.find((n) => cluster.isRunning(n) && n !== Number(args[2])) ?? 1;
  expect(await tide(cluster, other, ...args), args.join(' ')).toMatchObject({ status: 0 });
}

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  load = await Load.prepare(cluster, { table: 'acct', nodes, partitions: 6, replicas: 2, writers: 3, readers: 1 });
  await createTable(cluster, 'CREATE TABLE log (id bigint PRIMARY KEY)', { partitions: 3, replicas: 1 });
  await createTable(cluster, 'CREATE TABLE wide (id bigint PRIMARY KEY)', { partitions: 3, replicas: 3 });
  for (const table of ['log', 'wide'])
    await cluster.sql(1).query(`INSERT INTO ${table} SELECT n FROM generate_series(1, 300) n`);
  load.start();
});
afterAll(async () => {
  await load?.stop();
  await cluster?.close();
});

describe('a rolling restart of all nodes', () => {
  it('fails no statement, waits for nobody, and brings every leader back', async () => {
    const before = await partitions();
    const restarts: object[] = [];
    // The manager's node last: it is away for the time, and nobody else could run the drain of another.
    for (const node of [...nodes].reverse()) {
      const others = nodes.filter((n) => n !== node);
      load.nodes = others;
      const drainedMs = performance.now();
      await run('node', 'drain', String(node));
      const drained = await partitions();
      expect(drained.filter((r) => r.role === 'leader' && r.node === node)).toEqual([]);
      for (const row of drained.filter((r) => r.role === 'leader')) {
        const followers = drained.filter((r) => r.tid === row.tid && r.pid === row.pid && r.node !== row.node);
        if (row.table !== 'log') expect(followers.some((r) => r.node !== node), `${row.table} ${row.pid}`).toBe(true);
      }
      const stoppedMs = performance.now();
      await cluster.stopNode(node);
      const away = { from: performance.now(), writes: load.writes.length };
      await sleep(AWAY_MS);
      const counted = await cluster.sql(others[0] ?? 0).query('SELECT (SELECT count(*) FROM log) + count(*) AS n FROM wide');
      expect(Number(counted.rows[0].n)).toBe(600);
      expect(load.writes.length - away.writes, `writes while node ${node} was away`).toBeGreaterThan(50);
      await cluster.restartNode(node);
      await run('node', 'undrain', String(node));
      const longestMs = load.longestWriteMs(stoppedMs);
      expect(longestMs, `longest write around the restart of node ${node}`).toBeLessThan(NO_WAIT_MS);
      restarts.push({ node, drainMs: stoppedMs - drainedMs, longestMs });
      const after = await partitions();
      expect(leadersIn(after)).toEqual(leadersIn(before));
      expect(copiesIn(after)).toEqual(copiesIn(before));
    }
    console.log(restarts);
    const events = await cluster.admin({ do: 'events', limit: 10_000 });
    expect(events.filter((e) => ['failover', 'node-out', 'replicas-given-up'].includes(e.kind))).toEqual([]);
  });

  it('refuses a drain that would leave rows bare, unless that is accepted', async () => {
    load.nodes = nodes;
    await cluster.stopNode(3);
    await eventually(async () => {
      const refused = await tide(cluster, 1, 'node', 'drain', '2');
      expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('DRAIN_UNCOVERED') });
    });
  });

  it('lost nothing and left nothing behind', async () => {
    await load.stop();
    await expectNothingLost(cluster, load, nodes);
    await expectReplicasEqual(cluster);
    await expectSettled(cluster, nodes);
  });
});
