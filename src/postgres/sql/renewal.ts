import type { NodeId } from '../../catalog/model.ts';
import { subscriptionName } from '../../catalog/names.ts';
import type { ReceivedStream } from '../../manager/ports.ts';
import type { Address } from '../connect.ts';
import { ident, literal, type Sql } from './client.ts';
import { createSubscription, dropSubscriptionSql } from './subscription.ts';

/**
 * PostgreSQL begins a stream that has ended again when its clock is `wal_retrieve_retry_interval` past the
 * stream's last start (`ApplyLauncherMain` in launcher.c). Where the clock was set back, that is as far away
 * as it was set. It keeps last starts by the subscription's oid: under a new one, the stream runs at once.
 */

/** Every stream that the server is to receive, by its name. */
export async function readReceived(sql: Sql): Promise<Map<string, ReceivedStream>> {
  const rows = await sql.query<{ name: string; runs: boolean; failures: string }>(
    String.raw`select s.subname as name,
            exists (select from pg_stat_subscription w where w.subid = s.oid and w.worker_type = 'apply') as runs,
            coalesce(t.apply_error_count + t.sync_error_count, 0) as failures
       from pg_subscription s left join pg_stat_subscription_stats t on t.subid = s.oid
      where s.subenabled and s.subname like 'tide\_%'`,
  );
  return new Map(rows.map((r) => [r.name, { runs: r.runs, failures: Number(r.failures) }]));
}

const nextName = (name: string) => `${name}_next`;
const pastName = (name: string) => `${name}_past`;

/**
 * Makes what a stream is to become: of the same name but for an ending, disabled, with every table that is
 * published now as one whose rows are there. Throws where the receiver does not reach the sender; nothing has
 * changed then.
 */
export async function prepareRenewal(sql: Sql, from: NodeId, to: NodeId, sender: Address): Promise<void> {
  await forgetRenewal(sql, from, to);
  const name = subscriptionName(from, to);
  await createSubscription(sql, from, to, sender, { name: nextName(name), enabled: false });
}

/**
 * From here on that is the stream, and goes on where the other was. `applied`: how far that had come, bytes;
 * it is disabled, and nothing is applied any more. Its position is never in danger: dropping a subscription
 * forgets it at once, whatever becomes of the transaction (replorigin_state_clear), so the old one goes when
 * the new one has its place. Needs a session.
 */
export async function renew(sql: Sql, from: NodeId, to: NodeId, applied: number): Promise<void> {
  const name = subscriptionName(from, to);
  if (applied > 0) {
    await sql.query(
      `select pg_replication_origin_advance('pg_' || oid, '0/0'::pg_lsn + ${applied}) from pg_subscription where subname = ${literal(nextName(name))}`,
    );
  }
  await sql.query('BEGIN');
  await sql.query(`ALTER SUBSCRIPTION ${ident(name)} SET (slot_name = NONE)`);
  await sql.query(`ALTER SUBSCRIPTION ${ident(name)} RENAME TO ${ident(pastName(name))}`);
  await sql.query(`ALTER SUBSCRIPTION ${ident(nextName(name))} RENAME TO ${ident(name)}`);
  await sql.query(`ALTER SUBSCRIPTION ${ident(name)} ENABLE`);
  await sql.query('COMMIT');
}

/** Drops what a renewal has left, or one that was cut off. Idempotent. */
export async function forgetRenewal(sql: Sql, from: NodeId, to: NodeId): Promise<void> {
  const name = subscriptionName(from, to);
  const left = await sql.query<{ name: string }>(
    'select subname as name from pg_subscription where subname in ($1, $2)',
    [nextName(name), pastName(name)],
  );
  for (const one of left) for (const statement of dropSubscriptionSql(one.name)) await sql.query(statement);
}
