import type { NodeId } from '../../catalog/model.ts';
import { subscriptionName } from '../../catalog/names.ts';
import type { ReceivedStream } from '../../manager/ports.ts';
import { type Address, ident, literal, type Sql } from './client.ts';
import { createSubscriptionSql, dropSubscriptionSql } from './mesh.ts';

/**
 * PostgreSQL begins a stream that has ended again when its clock is `wal_retrieve_retry_interval` past the stream's last start
 * (`ApplyLauncherMain` in launcher.c). Where the clock was set back, that is as far away as it was set. It keeps last starts by the
 * subscription's oid: under a new one, the stream runs at once.
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

/**
 * The same stream under a new oid, going on where it was. `applied`: how far it had come, bytes; nothing may be applied any more.
 * `prepare` takes out of the publication what must not be taken for copied; it is called when the sender has been reached, and not
 * at all where it cannot be. Needs a session; one transaction.
 */
export async function renewSubscription(
  sql: Sql,
  stream: { from: NodeId; to: NodeId; sender: Address; applied: number },
  prepare: () => Promise<void>,
): Promise<void> {
  const { from, to, sender, applied } = stream;
  const name = subscriptionName(from, to);
  const create = createSubscriptionSql(from, to, sender, false);
  await sql.query('BEGIN');
  for (const statement of dropSubscriptionSql(name)) await sql.query(statement);
  await sql.query('SAVEPOINT reached');
  await sql.query(create);
  await sql.query('ROLLBACK TO SAVEPOINT reached');
  await prepare();
  await sql.query(create);
  if (applied > 0) {
    await sql.query(
      `select pg_replication_origin_advance('pg_' || oid, '0/0'::pg_lsn + ${applied}) from pg_subscription where subname = ${literal(name)}`,
    );
  }
  await sql.query(`ALTER SUBSCRIPTION ${ident(name)} ENABLE`);
  await sql.query('COMMIT');
}
