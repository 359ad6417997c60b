import { setTimeout as sleep } from 'node:timers/promises';
import type { PartitionRow } from '../../src/api/results.ts';
import { partitionTable } from '../../src/catalog/names.ts';
import { must } from '../../src/core/assert.ts';
import type { LocalCluster } from './cluster.ts';

const POLL_MS = 200;
const CONVERGE_MS = 30_000;

/** What is compared on a cluster at rest. Each gives what is wrong, in words; nothing where all is well. */

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
  const replicas = await cluster.admin({ do: 'partition-ls' });
  return [
    ...(await leftoversNamed(cluster)),
    ...(await crookedHinges(cluster, nodes)),
    ...replicas.filter((r) => r.state !== 'ready').map((r) => `${r.table} ${r.pid} on node ${r.node} is ${r.state}`),
    ...(await differentReplicas(cluster, replicas)),
  ];
}

async function leftoversNamed(cluster: LocalCluster): Promise<string[]> {
  const { findings, unreachable } = await cluster.admin({ do: 'doctor' });
  return [
    ...findings.map((f) => `doctor: node ${f.node}: ${f.kind} ${f.name}: ${f.why}`),
    ...unreachable.map((u) => `doctor: node ${u.node}: ${u.why}`),
  ];
}

/** Followers that do not hold what their leader holds. */
export async function differentReplicas(cluster: LocalCluster, rows: readonly PartitionRow[]): Promise<string[]> {
  const different: string[] = [];
  for (const follower of rows.filter((r) => r.role === 'follower')) {
    const leader = must(
      rows.find((r) => r.role === 'leader' && r.tid === follower.tid && r.pid === follower.pid),
      'leader',
    );
    const [theirs, ours] = [await contentOf(cluster, leader), await contentOf(cluster, follower)];
    if (theirs !== ours)
      different.push(
        `${follower.table} ${follower.pid} on node ${follower.node} holds ${ours}, its leader on node ${leader.node} ${theirs}`,
      );
  }
  return different;
}

async function contentOf(cluster: LocalCluster, { tid, pid, node }: PartitionRow): Promise<string> {
  const { rows } = await cluster
    .manager(node)
    .query(
      `SELECT count(*) || ':' || coalesce(md5(string_agg(r::text, E'\\n' ORDER BY r::text)), '') AS content FROM tide_data.${partitionTable(tid, pid)} r`,
    );
  return rows[0].content;
}

/** Hinges that do not lead straight to the leader. */
export async function crookedHinges(cluster: LocalCluster, nodes: readonly number[]): Promise<string[]> {
  const partitions = await cluster.admin({ do: 'partition-ls' });
  const crooked: string[] = [];
  for (const node of nodes) {
    const { rows } = await cluster.postgres(node).query<{ hinge: string; child: string }>(
      `SELECT h.relname AS hinge, c.relnamespace::regnamespace || '.' || c.relname AS child
         FROM pg_class h LEFT JOIN pg_inherits i ON i.inhparent = h.oid LEFT JOIN pg_class c ON c.oid = i.inhrelid
        WHERE h.relnamespace = 'tide_hinge'::regnamespace AND h.relkind = 'p'`,
    );
    const children = new Map(rows.map((r) => [r.hinge, r.child]));
    for (const { tid, pid, node: leader } of partitions.filter((p) => p.role === 'leader')) {
      const name = partitionTable(tid, pid);
      const wanted = leader === node ? `tide_data.${name}` : `tide_remote.${name}_n${leader}`;
      if (children.get(name) !== wanted) crooked.push(`node ${node}: ${name} leads to ${children.get(name)}`);
    }
  }
  return crooked;
}

/** Guards that are off on a follower or on on a leader. */
export async function wrongGuards(cluster: LocalCluster): Promise<string[]> {
  const wrong: string[] = [];
  for (const { tid, pid, node, role } of await cluster.admin({ do: 'partition-ls' })) {
    const name = partitionTable(tid, pid);
    const { rows } = await cluster
      .manager(node)
      .query(
        `SELECT tgenabled FROM pg_trigger WHERE tgrelid = 'tide_data.${name}'::regclass AND tgname = 'tide_guard'`,
      );
    if (rows[0]?.tgenabled !== (role === 'leader' ? 'D' : 'O'))
      wrong.push(`${role} ${name} on node ${node}: guard is ${rows[0]?.tgenabled}`);
  }
  return wrong;
}
