import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../../catalog/model.ts';
import { publicationName, subscriptionName } from '../../catalog/names.ts';
import { must } from '../../core/assert.ts';
import { TIDE_MANAGER } from '../config.ts';
import { type Address, streamConnection } from '../connect.ts';
import { shieldRoleSql } from '../shield.ts';
import { ident, literal, type Sql } from './client.ts';

/** The receiver's side of a stream: what it takes up, and its workers. */

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
 * not even name them: clients have its rights.
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

async function subscriptionExists(sql: Sql, from: NodeId, to: NodeId): Promise<boolean> {
  const rows = await sql.query('select from pg_subscription where subname = $1', [subscriptionName(from, to)]);
  return rows.length > 0;
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

/** Everything that was applied, without waiting for its flush, is on disk. */
export async function flushWal(sql: Sql): Promise<void> {
  await sql.query(`select pg_logical_emit_message(false, 'tide', '', true)`);
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
