import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PartitionRow } from '../../src/api/results.ts';
import { embeddedBinDir } from '../../src/postgres/embedded.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { Load } from './support/load.ts';
import { eventually, expectNothingLost, expectReplicasEqual, expectSettled, startNodes } from './support/proof.ts';
import { tide } from './support/tide.ts';

/**
 * Drain, stop, start, undrain, node after node, under load through the others: an upgrade that nobody
 * notices.
 */

/**
 * A write that met the stop of a node waits for its silence to be noticed, 3 s; one that did not takes
 * moments.
 */
const NO_WAIT_MS = 2_000;

let cluster: LocalCluster;
let nodes: number[];
let load: Load;

const partitions = () => cluster.admin({ do: 'partition-ls' });
const leadersIn = (rows: readonly PartitionRow[]) =>
  rows.filter((r) => r.role === 'leader').map((r) => `${r.table} ${r.pid} led by ${r.node}`);
const copiesIn = (rows: readonly PartitionRow[]) => rows.map((r) => `${r.table} ${r.pid} on ${r.node}`).sort();

async function run(...args: string[]): Promise<void> {
  const other = nodes.find((n) => cluster.node(n).isRunning && n !== Number(args[2])) ?? 1;
  expect(await tide(cluster, other, ...args), args.join(' ')).toMatchObject({ status: 0 });
}

const statusOf = async (node: number) => (await cluster.admin({ do: 'node-status' })).find((n) => n.id === node);

async function expectMinor(version: string): Promise<void> {
  for (const node of nodes) {
    const { rows } = await cluster.postgres(node).query('SHOW server_version');
    expect(rows[0].server_version, `node ${node}`).toBe(version);
  }
}

/**
 * The embedded PostgreSQL under the number of the next minor version: what `--postgres-bin` is given in an
 * upgrade.
 */
async function minorAfter(version: string): Promise<string> {
  const from = await embeddedBinDir();
  const dir = join(cluster.dir, 'postgresql-next');
  await mkdir(join(dir, 'bin'), { recursive: true });
  for (const name of ['lib', 'share', 'bin/initdb']) await symlink(join(dirname(from), name), join(dir, name));
  const [major, minor] = version.split('.');
  const program = await readFile(join(from, 'postgres'), 'latin1');
  const next = program.replaceAll(version, `${major}.${Number(minor) + 1}`);
  await writeFile(join(dir, 'bin', 'postgres'), next, { encoding: 'latin1', mode: 0o755 });
  return join(dir, 'bin');
}

beforeAll(async () => {
  cluster = await LocalCluster.create();
  nodes = await startNodes(cluster, 3);
  // Or it would even out who leads what among those that are left, and again when the node is back.
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
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
    let before = await partitions();
    await expectMinor('18.4');
    const newer = await minorAfter('18.4');
    // The manager's node last: it is away for the time, and nobody else could run the drain of another.
    for (const node of [...nodes].reverse()) {
      const others = nodes.filter((n) => n !== node);
      load.nodes = others;
      await run('node', 'drain', String(node));
      const drained = await partitions();
      expect(drained.filter((r) => r.role === 'leader' && r.node === node)).toEqual([]);
      for (const row of drained.filter((r) => r.role === 'leader')) {
        const followers = drained.filter((r) => r.tid === row.tid && r.pid === row.pid && r.node !== row.node);
        if (row.table !== 'log')
          expect(
            followers.some((r) => r.node !== node),
            `${row.table} ${row.pid}`,
          ).toBe(true);
      }
      const stoppedMs = performance.now();
      // As if an older version had made it: the start has to make it anew.
      await cluster.manager(node).query(`COMMENT ON SCHEMA tide IS 'older'; DROP FUNCTION tide.await_marker`);
      await cluster.node(node).stop();
      const away = load.writes.length;
      await eventually(async () =>
        expect(load.writes.length - away, `writes while node ${node} was away`).toBeGreaterThan(50),
      );
      const counted = await cluster
        .sql(others[0] ?? 0)
        .query('SELECT (SELECT count(*) FROM log) + count(*) AS n FROM wide');
      expect(Number(counted.rows[0].n)).toBe(600);
      await cluster.node(node).restart([`--postgres-bin=${newer}`]);
      await run('node', 'undrain', String(node));
      const longestMs = load.longestWriteMs(stoppedMs);
      expect(longestMs, `longest write around the restart of node ${node}`).toBeLessThan(NO_WAIT_MS);
      const after = await partitions();
      expect(leadersIn(after).sort()).toEqual(leadersIn(before).sort());
      expect(copiesIn(after)).toEqual(copiesIn(before));
      before = after;
    }
    await expectMinor('18.5');
    const events = await cluster.admin({ do: 'events', limit: 10_000 });
    expect(events.filter((e) => ['failover', 'node-out', 'replicas-given-up'].includes(e.kind))).toEqual([]);
  });

  it('lost nothing and left nothing behind', async () => {
    await load.stop();
    await expectNothingLost(cluster, load, nodes);
    await expectReplicasEqual(cluster);
    await expectSettled(cluster, nodes);
  });
  it('refuses to leave rows bare, unless that is accepted; then nobody waits for them', async () => {
    await run('node', 'drain', '3');
    await cluster.node(3).stop();
    const refused = await tide(cluster, 1, 'node', 'drain', '2');
    expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('DRAIN_UNCOVERED') });
    expect(refused.stderr).toContain('--allow-single-replica');
    expect((await statusOf(2))?.isDraining).toBe(false);
    await run('node', 'drain', '2', '--allow-single-replica');
    const alone = (await partitions()).filter((r) => r.role === 'leader' && r.node === 1);
    expect(alone.length).toBeGreaterThan(3);
    expect(new Set(alone.map((r) => r.durability))).toEqual(new Set(['leader']));
    await cluster.node(2).stop();
    const beganMs = performance.now();
    await cluster.sql(1).query('INSERT INTO wide SELECT n FROM generate_series(1001, 1100) n');
    expect(performance.now() - beganMs).toBeLessThan(NO_WAIT_MS);
    await cluster.node(2).restart();
    await run('node', 'undrain', '2');
    await cluster.node(3).restart();
    await run('node', 'undrain', '3');
    expect(await statusOf(3)).toMatchObject({ isDraining: false, condition: 'live' });
    for (const row of (await partitions()).filter((r) => r.role === 'leader'))
      expect(row.durability, `${row.table} ${row.pid}`).toBe(row.table === 'log' ? 'leader' : 'quorum');
    await expectReplicasEqual(cluster);
    await expectSettled(cluster, nodes);
  });
});
