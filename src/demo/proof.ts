import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import type { DoctorResult, PartitionRow } from '../api/results.ts';
import { must } from '../core/assert.ts';
import type { FoundRow, Ledger } from '../local/ledger.ts';
import { type CityBook, contentHash, contentHashThrough } from './cities.ts';

const REPLICA_WAIT_MS = 30_000;
const REPLICA_POLL_MS = 300;
const DIFFERENCES_SHOWN = 10;

export interface ProofInput {
  readonly book: CityBook;
  readonly ledger: Ledger;
  /**
   * Running nodes; `postgres` connects straight to the node's own server, as a superuser: no client sees a
   * follower's rows.
   */
  readonly nodes: readonly { readonly id: number; readonly sql: pg.Pool; readonly postgres: pg.Pool }[];
  readonly partitions: () => Promise<PartitionRow[]>;
  readonly doctor: () => Promise<DoctorResult>;
}

export interface Proof {
  /** Acknowledged writes that at least one node does not show. */
  readonly lost: number;
  /** Nodes through which the cities are not what was loaded, each with what is different. */
  readonly wrongCities: readonly string[];
  /** Followers compared with their leaders, and those that differ. */
  readonly replicasCompared: number;
  readonly replicasDiffer: number;
  readonly differences: readonly string[];
  readonly doctor: readonly string[];
}

/** Asks every node for everything, when the traffic has come to its end. */
export async function prove(input: ProofInput): Promise<Proof> {
  const lost = await lostWrites(input);
  const wrongCities = await compareCities(input);
  const replicas = await compareReplicas(input);
  const { findings, unreachable } = await input.doctor();
  const doctor = [
    ...findings.map((f) => `node ${f.node}: ${f.kind} ${f.name}: ${f.why}`),
    ...unreachable.map((u) => `node ${u.node} could not be asked: ${u.why}`),
  ];
  return { lost, wrongCities, ...replicas, doctor };
}

async function lostWrites({ ledger, nodes }: ProofInput): Promise<number> {
  const lost = new Map<number, number>();
  for (const { sql } of nodes) {
    const { rows } = await sql.query<{ id: string } & FoundRow>('SELECT id, value, writes FROM traffic');
    const found = new Map(rows.map((row) => [Number(row.id), row]));
    for (const [key, count] of ledger.lost(found)) lost.set(key, Math.max(count, lost.get(key) ?? 0));
  }
  return [...lost.values()].reduce((sum, count) => sum + count, 0);
}

async function compareCities({ book, nodes }: ProofInput): Promise<string[]> {
  const expected = contentHash(book);
  const wrong: string[] = [];
  for (const { id, sql } of nodes) {
    const client = await sql.connect();
    const seen = await contentHashThrough(client).finally(() => client.release());
    if (seen.rows !== book.count) wrong.push(`node ${id} shows ${seen.rows} of ${book.count} cities`);
    else if (seen.hash !== expected) wrong.push(`node ${id} shows other contents than were loaded`);
  }
  return wrong;
}

/** A follower may be a moment behind: it is compared again until it is equal, or time is up. */
async function compareReplicas(
  input: ProofInput,
): Promise<{ replicasCompared: number; replicasDiffer: number; differences: string[] }> {
  const rows = await input.partitions();
  const leaders = rows.filter((row) => row.role === 'leader');
  const until = performance.now() + REPLICA_WAIT_MS;
  let pending = rows.filter((row) => row.role === 'follower');
  const replicasCompared = pending.length;
  for (;;) {
    pending = await stillDifferent(input, leaders, pending);
    if (pending.length === 0 || performance.now() > until) break;
    await sleep(REPLICA_POLL_MS);
  }
  const differences: string[] = [];
  for (const follower of pending)
    differences.push(await describeDifference(input, leaderOf(leaders, follower), follower));
  return { replicasCompared, replicasDiffer: pending.length, differences };
}

async function stillDifferent(
  input: ProofInput,
  leaders: PartitionRow[],
  followers: PartitionRow[],
): Promise<PartitionRow[]> {
  const expected = new Map<PartitionRow, string>();
  const different: PartitionRow[] = [];
  for (const follower of followers) {
    const leader = leaderOf(leaders, follower);
    const hash = expected.get(leader) ?? (await replicaHash(input, leader));
    expected.set(leader, hash);
    if ((await replicaHash(input, follower)) !== hash) different.push(follower);
  }
  return different;
}

function leaderOf(leaders: readonly PartitionRow[], row: PartitionRow): PartitionRow {
  return must(
    leaders.find((l) => l.tid === row.tid && l.pid === row.pid),
    `leader of ${row.table} ${row.pid}`,
  );
}

function replicaTable({ tid, pid }: PartitionRow): string {
  return `tide_data.t${tid}_p${pid}`;
}

/** Both tables of the demo have the key `id`. */
async function replicaHash(input: ProofInput, row: PartitionRow): Promise<string> {
  const { rows } = await serverOf(input, row.node).query<{ hash: string }>(
    `SELECT count(*) || ':' || md5(coalesce(string_agg(r::text, E'\\n' ORDER BY id), '')) AS hash FROM ${replicaTable(row)} r`,
  );
  return must(rows[0], 'hash').hash;
}

async function describeDifference(input: ProofInput, leader: PartitionRow, follower: PartitionRow): Promise<string> {
  const [theirs, ours] = await Promise.all([rowTexts(input, leader), rowTexts(input, follower)]);
  const texts = [
    ...[...theirs]
      .filter(([id, text]) => ours.get(id) !== text)
      .map(([id, text]) => `${text} is ${ours.get(id) ?? 'missing'}`),
    ...[...ours].filter(([id]) => !theirs.has(id)).map(([, text]) => `${text} is not on the leader`),
  ];
  const shown = texts.slice(0, DIFFERENCES_SHOWN).join('; ');
  return `${follower.table} ${follower.pid} on node ${follower.node}: ${texts.length} rows differ from node ${leader.node}: ${shown}`;
}

async function rowTexts(input: ProofInput, row: PartitionRow): Promise<Map<string, string>> {
  const { rows } = await serverOf(input, row.node).query<{ id: string; text: string }>(
    `SELECT id, r::text AS text FROM ${replicaTable(row)} r`,
  );
  return new Map(rows.map(({ id, text }) => [id, text]));
}

function serverOf(input: ProofInput, node: number): pg.Pool {
  return must(
    input.nodes.find((n) => n.id === node),
    `node ${node}`,
  ).postgres;
}
