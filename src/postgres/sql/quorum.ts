import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId, Quorum } from '../../catalog/model.ts';
import { subscriptionName } from '../../catalog/names.ts';
import { NO_QUORUM } from '../../catalog/quorum.ts';
import { tideError } from '../../core/errors.ts';
import { literal, type Sql } from './client.ts';
import { writeMarker } from './marker.ts';

/**
 * A quorum as PostgreSQL takes it (manual, 19.6.2). A walsender is known there by the application name of its
 * subscriber, which is the subscription's name.
 */
export function quorumText(node: NodeId, { count, nodes }: Quorum): string {
  if (count === 0) return '';
  return `ANY ${count} (${nodes.map((n) => subscriptionName(node, n)).join(', ')})`;
}

/** Null for a list that is not of our making. */
export function parseQuorum(node: NodeId, text: string): Quorum | null {
  if (text.trim() === '') return NO_QUORUM;
  const [, count = '', names = ''] = /^ANY (\d+) \(([^)]+)\)$/.exec(text) ?? [];
  const nodes = names.split(', ').map((name) => Number(/^tide_\d+_(\d+)$/.exec(name)?.[1] ?? Number.NaN));
  const quorum = { count: Number(count), nodes };
  return quorumText(node, quorum) === text ? quorum : null;
}

export async function readQuorum(sql: Sql, node: NodeId): Promise<Quorum | null> {
  const [row] = await sql.query<{ text: string }>("select current_setting('synchronous_standby_names') as text");
  return parseQuorum(node, row?.text ?? '');
}

const TAKEN_MS = 5_000;
const LOOK_MS = 5;

/**
 * Sets it and waits until it is in force: a session has the new value, and every walsender (that has been
 * answered before, or it would count nowhere) has taken up whether it is in the list. A walsender reads
 * settings it was told of before it reads its receiver's next answer, so that by then none judges by the old
 * count either. Commits that wait already are judged anew only when such an answer comes, which on a quiet
 * node takes ten seconds: the marker draws one at once.
 */
export async function setQuorum(sql: Sql, node: NodeId, quorum: Quorum): Promise<void> {
  const text = quorumText(node, quorum);
  if (quorum.count > 0 && !isInForce(await readQuorum(sql, node))) await beginWaiting(sql, node, quorum);
  await setList(sql, text);
  await awaitTaken(sql, node, quorum, text);
  if (quorum.count > 0) await writeMarker(sql, node);
}

/** False for an empty list, and for the one that `beginWaiting` sets. */
const isInForce = (before: Quorum | null) =>
  before === null || (before.count > 0 && before.count <= before.nodes.length);

/**
 * Whether commits wait at all stands in shared memory, and only the checkpointer writes it there when it
 * takes the list up (SyncRepUpdateSyncStandbysDefined in PostgreSQL's syncrep.c), which may be after a
 * checkpoint that takes seconds. So the first list is one that nobody can satisfy, until a commit is seen to
 * wait; after that, commits find the flag, and judge by the list. A commit that did not wait is no proof of
 * anything.
 */
async function beginWaiting(sql: Sql, node: NodeId, { nodes }: Quorum): Promise<void> {
  const text = quorumText(node, { count: nodes.length + 1, nodes });
  await setList(sql, text);
  const untilMs = performance.now() + TAKEN_MS;
  let isProbing = false;
  for (;;) {
    if (!isProbing) {
      isProbing = true;
      const ended = () => {
        isProbing = false;
      };
      sql.query(PROBE).then(ended, ended);
    }
    const waiting = await sql.query(END_PROBES);
    if (waiting.length > 0) return;
    if (performance.now() > untilMs)
      throw tideError('QUORUM_NOT_TAKEN', { node, quorum: text, seconds: TAKEN_MS / 1000 });
    await sleep(LOOK_MS);
  }
}

/** A commit that concerns nobody, and waits as a client's does. */
const PROBE = `/* pgtide: do commits wait? */ begin; set local synchronous_commit = on;
  select pg_logical_emit_message(true, 'tide', ''); commit`;
/** Ends the waiting ones, and tells whether anybody waited. */
const END_PROBES = `select query like '/* pgtide: do commits wait? */%' and pg_cancel_backend(pid)
  from pg_stat_activity where wait_event = 'SyncRep'`;

async function setList(sql: Sql, text: string): Promise<void> {
  await sql.query(`ALTER SYSTEM SET synchronous_standby_names = ${literal(text)}`);
  await sql.query('select pg_reload_conf()');
}

async function awaitTaken(sql: Sql, node: NodeId, { nodes }: Quorum, text: string): Promise<void> {
  const names = nodes.map((n) => subscriptionName(node, n));
  const untilMs = performance.now() + TAKEN_MS;
  for (;;) {
    const [row] = await sql.query<{ taken: boolean }>(
      `select current_setting('synchronous_standby_names') = $1 and not exists (
         select from pg_stat_replication where application_name like 'tide\\_%' and flush_lsn is not null
            and (sync_priority > 0) <> (application_name = any($2))) as taken`,
      [text, names],
    );
    if (row?.taken) return;
    if (performance.now() > untilMs)
      throw tideError('QUORUM_NOT_TAKEN', { node, quorum: text, seconds: TAKEN_MS / 1000 });
    await sleep(LOOK_MS);
  }
}
