import { setTimeout as sleep } from 'node:timers/promises';
import { partitionTable, SCHEMAS } from '../../catalog/names.ts';
import { ownProcessId } from './blockers.ts';
import { isLockFailure, literal, qualified, type Sql } from './client.ts';

/**
 * A refusal: two triggers on a leader's replica table that let no write in (TD005). For each row, because
 * only those are fired by what comes through the table above it; TRUNCATE fires on every table that it
 * reaches. Apply workers, and the copy of a replica, fire neither.
 */
const ROWS = 'tide_refusal';
const TRUNCATE = 'tide_refusal_truncate';

export async function readRefusals(sql: Sql): Promise<Map<string, 'on' | 'off'>> {
  const rows = await sql.query<{ name: string; on: boolean }>(
    `select c.relname as name, count(*) filter (where t.tgenabled = 'O') = 2 as on
       from pg_trigger t join pg_class c on c.oid = t.tgrelid
      where t.tgname in ('${ROWS}', '${TRUNCATE}') and c.relnamespace = 'tide_data'::regnamespace
      group by c.relname`,
  );
  return new Map(rows.map((r) => [r.name, r.on ? 'on' : 'off']));
}

/**
 * How long writers of the partition queue behind the request for the lock, and so how long one may take
 * beside which others have begun. They could not be acknowledged anyway, and readers do not queue.
 */
const LOCK_MS = 2_000;
const LOOK_MS = 20;

/**
 * Comes back when no transaction that has written to the partition is open or waits for its quorum, and none
 * can begin. CREATE TRIGGER takes a lock that conflicts with every writer's and with no reader's, and a
 * commit that waits for its quorum holds its locks until it is acknowledged: so whoever waits is ended,
 * without an acknowledgement (PostgreSQL manual, 26.2.8.4). The low `deadlock_timeout` ends an autovacuum in
 * the way.
 *
 * `session`: one connection; `beside`: another, while the first waits. Throws a lock failure where somebody's
 * transaction stays open.
 */
export async function refuseWrites(
  session: Sql,
  beside: Sql,
  { tid, pid }: { tid: number; pid: number },
  table: string,
): Promise<void> {
  const replica = qualified(SCHEMAS.data, partitionTable(tid, pid));
  const says = `EXECUTE FUNCTION tide.no_follower(${literal(table)}, ${literal(String(pid))})`;
  const processId = await ownProcessId(session);
  const made = session.query(
    [
      'BEGIN',
      `SET LOCAL lock_timeout = ${LOCK_MS}`,
      "SET LOCAL deadlock_timeout = '20ms'",
      `LOCK TABLE ${replica} IN SHARE ROW EXCLUSIVE MODE`,
      `CREATE OR REPLACE TRIGGER ${ROWS} BEFORE INSERT OR UPDATE OR DELETE ON ${replica} FOR EACH ROW ${says}`,
      `CREATE OR REPLACE TRIGGER ${TRUNCATE} BEFORE TRUNCATE ON ${replica} ${says}`,
      'COMMIT',
    ].join(';\n'),
  );
  let isMade = false;
  const ended = made.then(
    () => (isMade = true),
    () => (isMade = true),
  );
  while (!(await Promise.race([ended, sleep(LOOK_MS, false)])) && !isMade) await endWaiters(beside, processId);
  await made;
}

/**
 * Ends the sessions in the way of `waiting` that wait for their quorum: their clients hear nothing more. A
 * prepared transaction is in the way itself (process id 0), while another session waits with its COMMIT
 * PREPARED.
 */
async function endWaiters(sql: Sql, waiting: number): Promise<void> {
  await sql.query(
    `with blocking as (select pg_blocking_pids($1) as pids)
     select pg_terminate_backend(a.pid) from pg_stat_activity a, blocking b
      where a.wait_event = 'SyncRep' and (a.pid = any(b.pids) or (0 = any(b.pids) and a.query ~* 'prepared'))`,
    [waiting],
  );
}

/**
 * Lets writes in again: at once by disabling the triggers, which holds up no reader. To drop them takes a
 * lock that would, so that is done when it is to be had without waiting; what is left is `off` until a later
 * try. Idempotent.
 */
export async function takeWrites(session: Sql, { tid, pid }: { tid: number; pid: number }): Promise<void> {
  const replica = qualified(SCHEMAS.data, partitionTable(tid, pid));
  const drop = [
    'BEGIN',
    `LOCK TABLE ${replica} IN ACCESS EXCLUSIVE MODE NOWAIT`,
    `DROP TRIGGER IF EXISTS ${ROWS} ON ${replica}`,
    `DROP TRIGGER IF EXISTS ${TRUNCATE} ON ${replica}`,
    'COMMIT',
  ];
  try {
    await session.query(drop.join(';\n'));
  } catch (error) {
    if (!isLockFailure(error)) throw error;
    await session.query('ROLLBACK');
    // Disabled already, nobody is to queue for a lock again.
    if ((await readRefusals(session)).get(partitionTable(tid, pid)) !== 'on') return;
    const disable = `ALTER TABLE ${replica} DISABLE TRIGGER ${ROWS}, DISABLE TRIGGER ${TRUNCATE}`;
    await session.query(`SET LOCAL lock_timeout = ${LOCK_MS}; ${disable}`);
  }
}
