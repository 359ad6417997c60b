import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { OperationResult } from '../../../src/api/results.ts';
import { must } from '../../../src/core/assert.ts';
import { TideError } from '../../../src/core/errors.ts';
import { TIDE_PEER } from '../../../src/postgres/config.ts';
import type { LocalCluster } from '../../support/cluster.ts';

const POLL_MS = 200;
const CONVERGE_MS = 30_000;

/** Asks for an operation as fast as it answers, until it is at `step`. Throws when it ends before. */
export async function untilStep(cluster: LocalCluster, id: number, step: string): Promise<OperationResult> {
  for (;;) {
    const operation = await cluster.admin({ do: 'op-show', id });
    if (operation.status === 'running' && operation.step === step) return operation;
    if (operation.endedAt !== null)
      throw new Error(`operation ${id} was ${operation.status} before anybody saw it at ${step}`);
    const passed = operation.steps.some((s) => s.name === step && s.status === 'done');
    if (passed)
      throw new Error(`operation ${id} had passed ${step} (now ${operation.step}) before anybody saw it there`);
  }
}

/**
 * The operation once it has ended, however. It has to go on by itself, across restarts of whoever is asked.
 */
export async function untilEnded(cluster: LocalCluster, id: number, timeoutMs = 60_000): Promise<OperationResult> {
  const until = performance.now() + timeoutMs;
  let last: OperationResult | null = null;
  while (performance.now() < until) {
    last = await cluster.admin({ do: 'op-show', id }).catch((error: unknown) => {
      if (error instanceof TideError && error.retry === 'later') return null;
      throw error;
    });
    if (last?.endedAt) return last;
    await sleep(POLL_MS);
  }
  throw new Error(
    `operation ${id} has not ended after ${timeoutMs / 1000} s: ${last?.status} at ${last?.step}, waits for ${last?.waitsFor?.text}`,
  );
}

/**
 * Everything a cluster at rest has to be, as sentences about what it is not. Waits for what takes its time,
 * and looks again where it changes meanwhile.
 */
export async function whatIsWrong(cluster: LocalCluster, nodes: readonly number[]): Promise<string[]> {
  const until = performance.now() + CONVERGE_MS;
  for (;;) {
    const wrong = await wrongNow(cluster, nodes).catch((error: Error) => [error.message]);
    if (wrong.length === 0 || performance.now() > until) return wrong;
    await sleep(POLL_MS);
  }
}

async function wrongNow(cluster: LocalCluster, nodes: readonly number[]): Promise<string[]> {
  return [
    ...(await leftoversNamed(cluster)),
    ...(await hingesAstray(cluster, nodes)),
    ...(await replicasApart(cluster)),
  ];
}

async function leftoversNamed(cluster: LocalCluster): Promise<string[]> {
  const { findings, unreachable } = await cluster.admin({ do: 'doctor' });
  return [
    ...findings.map((f) => `doctor: node ${f.node}: ${f.kind} ${f.name}: ${f.why}`),
    ...unreachable.map((u) => `doctor: node ${u.node}: ${u.why}`),
  ];
}

async function hingesAstray(cluster: LocalCluster, nodes: readonly number[]): Promise<string[]> {
  const rows = await cluster.admin({ do: 'partition-ls' });
  const wrong: string[] = [];
  for (const node of nodes) {
    const { rows: hinges } = await cluster.postgres(node).query<{ hinge: string; child: string }>(
      `SELECT h.relname AS hinge, n.nspname || '.' || c.relname AS child
         FROM pg_class h JOIN pg_inherits i ON i.inhparent = h.oid
         JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE h.relnamespace = 'tide_hinge'::regnamespace`,
    );
    const children = new Map(hinges.map((row) => [row.hinge, row.child]));
    for (const leader of rows.filter((row) => row.role === 'leader')) {
      const name = `t${leader.tid}_p${leader.pid}`;
      const wanted = leader.node === node ? `tide_data.${name}` : `tide_remote.${name}_n${leader.node}`;
      if (children.get(name) !== wanted)
        wrong.push(`node ${node}: hinge ${name} leads to ${children.get(name)}, not ${wanted}`);
    }
  }
  return wrong;
}

async function replicasApart(cluster: LocalCluster): Promise<string[]> {
  const rows = await cluster.admin({ do: 'partition-ls' });
  const wrong = rows
    .filter((row) => row.state !== 'ready')
    .map((row) => `${row.table} ${row.pid} on node ${row.node} is ${row.state}`);
  const hashes = new Map<string, string>();
  for (const row of rows) hashes.set(`${row.tid}/${row.pid}/${row.node}`, await contents(cluster, row));
  for (const row of rows.filter((r) => r.role === 'follower')) {
    const leader = must(
      rows.find((r) => r.role === 'leader' && r.tid === row.tid && r.pid === row.pid),
      'leader',
    );
    const [theirs, ours] = [leader, row].map((r) => hashes.get(`${r.tid}/${r.pid}/${r.node}`));
    if (theirs !== ours)
      wrong.push(`${row.table} ${row.pid}: node ${row.node} has ${ours}, its leader ${leader.node} has ${theirs}`);
  }
  return wrong;
}

async function contents(cluster: LocalCluster, row: { tid: number; pid: number; node: number }): Promise<string> {
  const { rows } = await cluster
    .manager(row.node)
    .query<{ hash: string }>(
      `SELECT count(*) || ' rows, ' || sum(hashtextextended(r::text, 0)) AS hash FROM tide_data.t${row.tid}_p${row.pid} r`,
    );
  return must(rows[0], 'hash').hash;
}

/**
 * Somebody's transaction that has run `sql` and stays open, in a session of its own: an operation that has to
 * wait for it does, and so waits where a test wants it. By itself it comes from another node, and may name
 * hinges.
 */
export async function hold(port: number, sql: string, user = TIDE_PEER): Promise<pg.Client> {
  const client = new pg.Client({ host: '127.0.0.1', port, user, database: 'tide' });
  client.on('error', () => {});
  await client.connect();
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await client.query(sql);
  return client;
}
