import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../catalog/model.ts';
import { publicationName, SCHEMAS, subscriptionName } from '../../catalog/names.ts';
import type { SlotState } from '../../catalog/retention.ts';
import { must } from '../../core/assert.ts';
import { TIDE_MANAGER } from '../config.ts';
import { type Address, streamConnection } from '../connect.ts';
import { shieldRoleSql } from '../shield.ts';
import { ident, literal, qualified, type Sql, sqlstateOf } from './client.ts';

/**
 * The replication mesh: one stream per ordered pair of nodes. `origin = none` sends only what was written at
 * the sender itself, so that streams in both directions do not echo, and a change of leader changes no
 * replication (docs/spec/replication.md).
 */

/** Publication with nothing but the sender's own marker row. Idempotent. */
export async function ensurePublication(sql: Sql, from: NodeId, to: NodeId): Promise<void> {
  const name = publicationName(to);
  const [found] = await sql.query('select from pg_publication where pubname = $1', [name]);
  if (found) return;
  await sql.query(
    `INSERT INTO tide.marker VALUES (${from}, 0) ON CONFLICT DO NOTHING;
     CREATE PUBLICATION ${ident(name)} FOR TABLE tide.marker WHERE (src = ${from})`,
  );
}

/**
 * The slot on the sending node, made by itself: CREATE SUBSCRIPTION would make it inside a transaction of the
 * receiver, and PostgreSQL makes a slot only when every older write transaction of the sender has ended; two
 * nodes that subscribe to each other would wait for ever. A slot without a subscription is a crash's leftover
 * and is made anew. Waits as PostgreSQL does, up to the statement's bound.
 */
export async function createSlot(sql: Sql, from: NodeId, to: NodeId): Promise<void> {
  const name = subscriptionName(from, to);
  await dropSlot(sql, name);
  await sql.query(`select pg_create_logical_replication_slot($1, 'pgoutput')`, [name]);
}

/**
 * Subscription of `to` on `from`; its slot has to be there. The receiver seeds the sender's marker row,
 * because an UPDATE of a row it does not have would be skipped; the publications' row filter keeps the seed
 * from travelling on. Idempotent.
 */
export async function ensureSubscription(sql: Sql, from: NodeId, to: NodeId, sender: Address): Promise<void> {
  const name = subscriptionName(from, to);
  const conninfo = streamConnection(sender, name);
  const [found] = await sql.query<{ conninfo: string; owner: string; asOwner: boolean }>(
    'select subconninfo as conninfo, pg_get_userbyid(subowner) as owner, subrunasowner as "asOwner" from pg_subscription where subname = $1',
    [name],
  );
  if (!found) {
    await sql.query(`INSERT INTO tide.marker VALUES (${from}, 0) ON CONFLICT DO NOTHING`);
    await createSubscription(sql, from, to, sender);
    return;
  }
  const stale = [
    found.conninfo === conninfo ? [] : `CONNECTION ${literal(conninfo)}`,
    found.owner === OWNER ? [] : `OWNER TO ${ident(OWNER)}`,
    found.asOwner ? [] : 'SET (run_as_owner = true)',
  ].flat();
  if (found.owner !== OWNER) await sql.query(shieldRoleSql(OWNER));
  if (stale.length > 0) await sql.query(stale.map((what) => `ALTER SUBSCRIPTION ${ident(name)} ${what}`).join(';\n'));
}

/**
 * Whom workers run as: no client is that role, so that it can have limits of its own. The tables' owner could
 * not even name them: clients have his rights.
 */
const OWNER = TIDE_MANAGER;

/**
 * Takes up every table that the publication lists as one whose rows are there. `as`: where it is not to run
 * yet, nor under its own name.
 */
export async function createSubscription(
  sql: Sql,
  from: NodeId,
  to: NodeId,
  sender: Address,
  as = { name: subscriptionName(from, to), enabled: true },
): Promise<void> {
  const stream = subscriptionName(from, to);
  await sql.query(shieldRoleSql(OWNER));
  await sql.query(`CREATE SUBSCRIPTION ${ident(as.name)} CONNECTION ${literal(streamConnection(sender, stream))} PUBLICATION ${ident(publicationName(to))}
     WITH (create_slot = false, slot_name = ${ident(stream)}, enabled = ${as.enabled}, origin = none, run_as_owner = true, binary = true, streaming = parallel, copy_data = false, synchronous_commit = off)`);
}

export async function subscriptionExists(sql: Sql, from: NodeId, to: NodeId): Promise<boolean> {
  const rows = await sql.query('select from pg_subscription where subname = $1', [subscriptionName(from, to)]);
  return rows.length > 0;
}

/**
 * Drops the subscription without asking the sender for its slot, which `dropSlot` takes away there.
 * Idempotent.
 */
export async function dropSubscription(sql: Sql, from: NodeId, to: NodeId): Promise<void> {
  if (!(await subscriptionExists(sql, from, to))) return;
  for (const statement of dropSubscriptionSql(subscriptionName(from, to))) await sql.query(statement);
  await sql.query('DELETE FROM tide.marker WHERE src = $1', [from]);
}

/** In this order it can be done without the sender. */
export function dropSubscriptionSql(name: string): string[] {
  return [
    `ALTER SUBSCRIPTION ${ident(name)} DISABLE`,
    `ALTER SUBSCRIPTION ${ident(name)} SET (slot_name = NONE)`,
    `DROP SUBSCRIPTION ${ident(name)}`,
  ];
}

/**
 * Drops the slot and the publication on the sending side. A walsender that still holds the slot is ended
 * first. Idempotent.
 */
export async function dropSender(sql: Sql, from: NodeId, to: NodeId): Promise<void> {
  await dropSlot(sql, subscriptionName(from, to));
  await sql.query(`DROP PUBLICATION IF EXISTS ${ident(publicationName(to))}`);
}

export async function dropSlot(sql: Sql, name: string): Promise<void> {
  await sql.query(
    'select pg_terminate_backend(active_pid, 2000) from pg_replication_slots where slot_name = $1 and active_pid is not null',
    [name],
  );
  await sql.query('select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1', [name]);
}

/**
 * Whether something flows: the subscription is there and enabled. The sender is asked for the slot by
 * `slotExists`.
 */
export async function subscriptionEnabled(sql: Sql, from: NodeId, to: NodeId): Promise<boolean> {
  const rows = await sql.query('select from pg_subscription where subname = $1 and subenabled', [
    subscriptionName(from, to),
  ]);
  return rows.length > 0;
}

/** Whether the subscription still has its slot: dropping one takes it away first. */
export async function subscriptionReads(sql: Sql, from: NodeId, to: NodeId): Promise<boolean> {
  const name = subscriptionName(from, to);
  const rows = await sql.query('select from pg_subscription where subname = $1 and subslotname = $1', [name]);
  return rows.length > 0;
}

/** Everything that was applied, without waiting for its flush, is on disk. */
export async function flushWal(sql: Sql): Promise<void> {
  await sql.query(`select pg_logical_emit_message(false, 'tide', '', true)`);
}

/** False too for a slot that PostgreSQL has given up because the receiver was away for too long. */
export async function slotExists(sql: Sql, from: NodeId, to: NodeId): Promise<boolean> {
  const rows = await sql.query(
    `select from pg_replication_slots where slot_name = $1 and wal_status is distinct from 'lost'`,
    [subscriptionName(from, to)],
  );
  return rows.length > 0;
}

/**
 * Whether somebody reads the slot now, also a connection that has yet to notice that its receiver is gone.
 */
export async function slotIsRead(sql: Sql, from: NodeId, to: NodeId): Promise<boolean> {
  const rows = await sql.query('select from pg_replication_slots where slot_name = $1 and active', [
    subscriptionName(from, to),
  ]);
  return rows.length > 0;
}

export async function enableSubscription(sql: Sql, from: NodeId, to: NodeId): Promise<void> {
  await sql.query(`ALTER SUBSCRIPTION ${ident(subscriptionName(from, to))} ENABLE`);
}

export async function disableSubscription(sql: Sql, from: NodeId, to: NodeId): Promise<void> {
  if (!(await subscriptionExists(sql, from, to))) return;
  await sql.query(`ALTER SUBSCRIPTION ${ident(subscriptionName(from, to))} DISABLE`);
}

/**
 * A worker looks whether it is still wanted only once it has its connection, which takes 20 s to fail where
 * the sender's machine has vanished. It has received nothing yet.
 */
export async function endUnconnected(sql: Sql, from: NodeId, to: NodeId): Promise<void> {
  await sql.query(
    `select pg_terminate_backend(w.pid) from pg_subscription s
       join pg_stat_subscription w on w.subid = s.oid join pg_stat_activity a on a.pid = w.pid
      where s.subname = $1 and a.wait_event = 'LibpqwalreceiverConnect'`,
    [subscriptionName(from, to)],
  );
}

/**
 * How far a receiver has applied the sender's WAL, bytes; null as long as a worker still applies, or where
 * there is no stream.
 */
export async function appliedPosition(
  sql: Sql,
  from: NodeId,
  to: NodeId,
): Promise<{ busy: boolean; position: number | null }> {
  const [row] = await sql.query<{ busy: boolean; position: string | null }>(
    `select exists (select from pg_stat_subscription a where a.subid = s.oid and a.pid is not null) as busy,
            pg_replication_origin_progress('pg_' || s.oid, true) - '0/0'::pg_lsn as position
       from pg_subscription s where s.subname = $1`,
    [subscriptionName(from, to)],
  );
  return row ? { busy: row.busy, position: Number(row.position ?? 0) } : { busy: false, position: null };
}

/**
 * Every slot that another node reads, those of table copies that were cut off included, and what it reads.
 */
export async function dropSenders(sql: Sql, node: NodeId): Promise<void> {
  const slots = await sql.query<{ name: string }>(
    String.raw`select slot_name as name from pg_replication_slots
      where starts_with(slot_name, $1) or slot_name like 'pg\_%\_sync\_%'`,
    [subscriptionName(node, 0).slice(0, -1)],
  );
  for (const { name } of slots) await dropSlot(sql, name);
  const publications = await sql.query<{ name: string }>(
    'select pubname as name from pg_publication where starts_with(pubname, $1)',
    [publicationName(0).slice(0, -1)],
  );
  for (const { name } of publications) await sql.query(`DROP PUBLICATION IF EXISTS ${ident(name)}`);
}

/** Replica tables in a publication, as `t4_p0`. */
export async function publishedTables(sql: Sql, to: NodeId): Promise<Set<string>> {
  const rows = await sql.query<{ name: string }>(
    `select tablename as name from pg_publication_tables where pubname = $1 and schemaname = 'tide_data'`,
    [publicationName(to)],
  );
  return new Set(rows.map((r) => r.name));
}

/** State of every replica table a subscription knows, as in pg_subscription_rel: i, d, f, s, r (ready). */
export async function subscribedTables(sql: Sql, from: NodeId, to: NodeId): Promise<Map<string, string>> {
  const rows = await sql.query<{ name: string; state: string }>(
    `select c.relname as name, r.srsubstate::text as state
       from pg_subscription s join pg_subscription_rel r on r.srsubid = s.oid join pg_class c on c.oid = r.srrelid
      where s.subname = $1 and c.relnamespace = 'tide_data'::regnamespace`,
    [subscriptionName(from, to)],
  );
  return new Map(rows.map((r) => [r.name, r.state]));
}

export async function publish(sql: Sql, to: NodeId, tables: string[]): Promise<void> {
  await alterPublication(sql, to, 'ADD', tables);
}

export async function unpublish(sql: Sql, to: NodeId, tables: string[]): Promise<void> {
  await alterPublication(sql, to, 'DROP', tables);
}

async function alterPublication(sql: Sql, to: NodeId, verb: 'ADD' | 'DROP', tables: string[]): Promise<void> {
  if (tables.length === 0) return;
  const list = tables.map((t) => qualified(SCHEMAS.data, t)).join(', ');
  await sql.query(
    `SET LOCAL lock_timeout = '3s'; ALTER PUBLICATION ${ident(publicationName(to))} ${verb} TABLE ${list}`,
  );
}

/**
 * Makes the receiver take up what the publication lists now; `copy`: tables new to it are copied first.
 * `meanwhile` is done over and over until it is through: it may wait for something that has to be taken out
 * of its way.
 */
export async function refresh(
  sql: Sql,
  from: NodeId,
  to: NodeId,
  copy: boolean,
  meanwhile?: () => Promise<void>,
): Promise<void> {
  const name = ident(subscriptionName(from, to));
  const through = sql.query(`ALTER SUBSCRIPTION ${name} REFRESH PUBLICATION WITH (copy_data = ${copy})`);
  if (meanwhile) await repeatDuring(through, meanwhile);
  await through;
}

const REPEAT_MS = 200;
/**
 * Between two looks for a marker, at the most: a swing waits for one while it holds its lock, and looks more
 * often at first.
 */
const MARKER_POLL_MS = 20;

async function repeatDuring(work: Promise<unknown>, repeat: () => Promise<void>): Promise<void> {
  const ended = work.then(
    () => true,
    () => true,
  );
  while (!(await Promise.race([ended, sleep(REPEAT_MS, false)]))) await repeat();
}

/**
 * The slot on the sender with which a table's first copy is made (PostgreSQL:
 * ReplicationSlotNameForTablesync).
 */
export async function tableSyncSlot(sql: Sql, from: NodeId, to: NodeId, table: string): Promise<string> {
  const [row] = await sql.query<{ name: string }>(
    `select format('pg_%s_sync_%s_%s', s.oid, c.oid, (select system_identifier from pg_control_system())) as name
       from pg_subscription s, pg_class c
      where s.subname = $1 and c.relnamespace = 'tide_data'::regnamespace and c.relname = $2`,
    [subscriptionName(from, to), table],
  );
  return must(row, `subscription ${subscriptionName(from, to)} and table ${table}`).name;
}

/**
 * WAL kept for a stream's receiver, bytes: what it has not confirmed, and for a copy what has been written
 * since that began.
 */
export async function keptWal(sql: Sql, stream: string, copySlot: string | null): Promise<number> {
  const [row] = await sql.query<{ bytes: string }>(
    `select coalesce(max(pg_current_wal_lsn() - case slot_name when $1 then confirmed_flush_lsn else restart_lsn end), 0) as bytes
       from pg_replication_slots where slot_name in ($1, $2)`,
    [stream, copySlot],
  );
  return Number(row?.bytes ?? 0);
}

/** Every logical slot of a server. */
export async function readSlots(sql: Sql): Promise<Map<string, SlotState>> {
  const rows = await sql.query<{ name: string; kept: string; behind: string; lost: boolean }>(
    `select slot_name as name, wal_status is not distinct from 'lost' as lost,
            coalesce(pg_current_wal_lsn() - restart_lsn, 0) as kept,
            coalesce(pg_current_wal_lsn() - confirmed_flush_lsn, 0) as behind
       from pg_replication_slots where slot_type = 'logical'`,
  );
  return new Map(
    rows.map((r) => [r.name, { keptBytes: Number(r.kept), behindBytes: Number(r.behind), isLost: r.lost }]),
  );
}

/**
 * PostgreSQL removes WAL at checkpoints only, which may be minutes away. One that takes longer than a
 * statement may is gone on with by the server: nobody has to wait for it.
 */
export async function removeWal(sql: Sql): Promise<void> {
  await sql.query('CHECKPOINT').catch((error: unknown) => {
    if (sqlstateOf(error) !== '57014') throw error;
  });
}

/**
 * Ends the walsender of a slot whose name begins so. While it makes a slot, a walsender waits for older
 * transactions, however long, and does not notice that its receiver has given up; whoever drops the slot
 * would wait with it.
 */
export async function endWalsender(sql: Sql, slot: string): Promise<void> {
  await sql.query(
    'select pg_terminate_backend(active_pid) from pg_replication_slots where starts_with(slot_name, $1) and active_pid is not null',
    [slot],
  );
}

/**
 * Raises the node's marker and returns its new value: whatever the node wrote before has a lower place in
 * every stream it sends.
 */
export async function writeMarker(sql: Sql, node: NodeId): Promise<string> {
  const [row] = await sql.query<{ value: string }>(
    `insert into tide.marker as m values ($1, 1) on conflict (src) do update set value = m.value + 1 returning value`,
    [node],
  );
  return row?.value ?? '0';
}

/**
 * True once the receiver has applied the marker; false when `timeoutMs` ran out. The server is asked over and
 * over: what it sleeps itself ends by a clock that may be set back meanwhile, and its session would stay,
 * with its snapshot, for as long as that.
 */
export async function awaitMarker(sql: Sql, from: NodeId, value: string, timeoutMs: number): Promise<boolean> {
  const sinceMs = performance.now();
  for (;;) {
    const [row] = await sql.query<{ arrived: boolean }>('select tide.await_marker($1, $2, 0) as arrived', [
      from,
      value,
    ]);
    const waitedMs = performance.now() - sinceMs;
    if (row?.arrived) return true;
    if (waitedMs >= timeoutMs) return false;
    await sleep(Math.min(1 + waitedMs / 10, MARKER_POLL_MS, timeoutMs - waitedMs));
  }
}

/** How far each receiver has replayed a sender's WAL, by application name. */
export async function readLag(sql: Sql): Promise<Map<string, { replayLsn: string; lagBytes: number }>> {
  const rows = await sql.query<{ name: string; lsn: string; lag: string }>(
    `select application_name as name, coalesce(replay_lsn, '0/0')::text as lsn,
            pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, '0/0')) as lag
       from pg_stat_replication where application_name like 'tide\\_%'`,
  );
  return new Map(rows.map((r) => [r.name, { replayLsn: r.lsn, lagBytes: Number(r.lag) }]));
}
