import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { OperationResult } from '../../../src/api/results.ts';
import { must } from '../../../src/core/assert.ts';
import { crookedHinges, differentReplicas, wrongGuards } from '../../support/checks.ts';
import type { LocalCluster } from '../../support/cluster.ts';
import { machine } from '../../support/machine.ts';
import type { Load } from './load.ts';

/** What every test of a move asserts in the end. */

/**
 * What a bound may be exceeded by: it is looked at by several processes, one after the other, each as late as
 * any on this machine.
 */
export const slackMs = () => 60 + 4 * machine.longestDelayMs;
const WAIT_MS = 30_000;

/** The load has ended without a failure or a missed row, and every node shows every acknowledged write. */
export async function expectNothingLost(cluster: LocalCluster, load: Load, nodes: readonly number[]): Promise<void> {
  expect(load.failures).toEqual([]);
  expect(load.incomplete).toEqual([]);
  for (const node of nodes) {
    const { rows } = await cluster.sql(node).query(`SELECT id, value, writes FROM ${load.table}`);
    const found = new Map(rows.map((r) => [Number(r.id), { value: String(r.value), writes: Number(r.writes) }]));
    expect([...load.ledger.lost(found)], `acknowledged writes through node ${node}`).toEqual([]);
    expect(rows.length, `rows through node ${node}`).toBe(found.size);
  }
}

/**
 * Hinges lead straight to the leaders, guards are on exactly where they belong, and the doctor has nothing to
 * say.
 */
export async function expectSettled(cluster: LocalCluster, nodes: readonly number[]): Promise<void> {
  await eventually(async () => expect(await crookedHinges(cluster, nodes)).toEqual([]));
  await eventually(async () => expect(await wrongGuards(cluster)).toEqual([]));
  const told = () => cluster.admin({ do: 'doctor' });
  await eventually(async () => expect(await told()).toEqual({ findings: [], unreachable: [], twins: [] }));
}

/** Every follower holds its leader's rows; one may be a moment behind. */
export async function expectReplicasEqual(cluster: LocalCluster): Promise<number> {
  const rows = await cluster.admin({ do: 'partition-ls' });
  await eventually(async () => expect(await differentReplicas(cluster, rows)).toEqual([]));
  return rows.filter((r) => r.role === 'follower').length;
}

/** Pauses of swings that came through are within the budget; returns how many there were. */
export function expectPausesWithin(operations: readonly OperationResult[], budgetMs: number): number {
  const done = operations.flatMap((o) => o.pauses).filter((p) => p.outcome === 'done');
  for (const pause of done) expect(pause.pauseMs, JSON.stringify(pause)).toBeLessThanOrEqual(budgetMs + slackMs());
  return done.length;
}

export async function leaderOf(cluster: LocalCluster, table: string, pid: number): Promise<number> {
  return must((await holdersOf(cluster, table, pid)).leader, 'leader');
}

export async function holdersOf(
  cluster: LocalCluster,
  table: string,
  pid: number,
): Promise<{ leader: number; followers: number[] }> {
  const rows = (await cluster.admin({ do: 'partition-ls', table })).filter((r) => r.pid === pid);
  const leader = must(
    rows.find((r) => r.role === 'leader'),
    'leader',
  );
  return { leader: leader.node, followers: rows.filter((r) => r.role === 'follower').map((r) => r.node) };
}

/** Repeats an assertion until it holds or the time is up. */
export async function eventually(assertion: () => Promise<void>, timeoutMs = WAIT_MS): Promise<void> {
  const until = performance.now() + timeoutMs;
  for (;;) {
    try {
      return await assertion();
    } catch (error) {
      if (performance.now() > until) throw error;
    }
    await sleep(200);
  }
}

/** Starts `count` nodes: the first makes the cluster, the others join it at once. */
export async function startNodes(
  cluster: LocalCluster,
  count: number,
  flags: readonly string[] = [],
): Promise<number[]> {
  await cluster.addNode({ flags });
  await Promise.all(Array.from({ length: count - 1 }, () => cluster.addNode({ flags })));
  return cluster.nodes.map((n) => n.id).sort((a, b) => a - b);
}

/** A key of the `id bigint` table that lives in partition `pid`. */
export async function keyIn(
  cluster: LocalCluster,
  { tid, table }: { tid: number; table: string },
  partitions: number,
  pid: number,
  from = 1,
): Promise<number> {
  const { rows } = await cluster.postgres(1).query<{ id: string }>(
    `SELECT n AS id FROM generate_series($1::bigint, $1::bigint + 10000) n
        WHERE satisfies_hash_partition('${table}'::regclass, ${partitions}, ${pid}, n) LIMIT 1`,
    [from],
  );
  return Number(must(rows[0], `a key of ${tid}/${pid}`).id);
}
