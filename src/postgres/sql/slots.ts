import type { NodeId } from '../../catalog/model.ts';
import { subscriptionName } from '../../catalog/names.ts';
import type { SlotState } from '../../catalog/retention.ts';
import { literal, type Sql, sqlstateOf } from './client.ts';

/** What a sender keeps for each of its receivers. */

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

/** So often it is tried, a millisecond between. */
const DROP_TRIES = 1_500;

/**
 * A walsender that still holds it is ended first. Its receiver may be there, and is back within
 * milliseconds: so it is dropped in the moment in which nobody holds it, by a loop on the server.
 * Idempotent. Fails with 55006 where there is no such moment for about 2 s.
 */
export async function dropSlot(sql: Sql, name: string): Promise<void> {
  await sql.query(`do $drop$
    declare
      slot constant name := ${literal(name)};
    begin
      for try in 1..${DROP_TRIES} loop
        perform pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = slot and active_pid is not null;
        begin
          perform pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = slot;
          return;
        exception when object_in_use then
          if try = ${DROP_TRIES} then raise; end if;
        end;
        perform pg_sleep(0.001);
      end loop;
    end $drop$`);
}

/** Every slot that another node reads, those of table copies that were cut off included. */
export async function dropSlots(sql: Sql, node: NodeId): Promise<void> {
  const slots = await sql.query<{ name: string }>(
    String.raw`select slot_name as name from pg_replication_slots
      where starts_with(slot_name, $1) or slot_name like 'pg\_%\_sync\_%'`,
    [subscriptionName(node, 0).slice(0, -1)],
  );
  for (const { name } of slots) await dropSlot(sql, name);
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

/** How far each receiver has replayed a sender's WAL, by application name. */
export async function readLag(sql: Sql): Promise<Map<string, { replayLsn: string; lagBytes: number }>> {
  const rows = await sql.query<{ name: string; lsn: string; lag: string }>(
    `select application_name as name, coalesce(replay_lsn, '0/0')::text as lsn,
            pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce(replay_lsn, '0/0')) as lag
       from pg_stat_replication where application_name like 'tide\\_%'`,
  );
  return new Map(rows.map((r) => [r.name, { replayLsn: r.lsn, lagBytes: Number(r.lag) }]));
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
