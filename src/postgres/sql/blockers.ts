import { partitionTable } from '../../catalog/names.ts';
import { must } from '../../core/assert.ts';
import type { Blocker } from '../../operations/ports.ts';
import { TIDE_MANAGER } from '../config.ts';
import type { Sql } from './client.ts';

const COLUMNS = `a.pid as "processId", a.usename as user, left(a.query, 200) as query, a.state, a.application_name as application,
  (extract(epoch from clock_timestamp() - coalesce(a.xact_start, a.query_start)) * 1000)::float8 as "ageMs"`;

/** The same columns for a prepared transaction, which holds its locks and its xid without a backend. */
const PREPARED = `0 as "processId", p.owner::text as user, 'prepared transaction ' || p.gid as query, 'prepared' as state,
  null::text as application, (extract(epoch from clock_timestamp() - p.prepared) * 1000)::float8 as "ageMs"`;

/**
 * Granted locks on a partition's hinge and on what hangs on it: locking the one locks the other, and ANALYZE
 * of a partitioned table keeps only that of the leaf, for as long as another server takes to answer.
 */
const ON_HINGE = `select l.pid, l.virtualtransaction from pg_locks l
   where l.granted and l.database = (select oid from pg_database where datname = current_database()) and l.relation in (
     select h.oid from pg_class h where h.relname = $1 and h.relnamespace = 'tide_hinge'::regnamespace
     union all
     select i.inhrelid from pg_inherits i join pg_class h on h.oid = i.inhparent
      where h.relname = $1 and h.relnamespace = 'tide_hinge'::regnamespace)`;

/** The same of its rows on this node, which hang on its hinge where they are led. */
const ON_REPLICA = `select l.pid, l.virtualtransaction from pg_locks l join pg_class c on c.oid = l.relation
   where l.granted and l.database = (select oid from pg_database where datname = current_database())
     and c.relname = $1 and c.relnamespace = 'tide_data'::regnamespace`;

/**
 * Who holds a lock on the partition's hinge, on what it leads to or on its replica on this node, oldest
 * first; prepared transactions have the process id 0.
 */
export async function lockHolders(sql: Sql, tid: number, pid: number): Promise<Blocker[]> {
  return sql.query<Blocker>(
    `with held as (${ON_HINGE} union ${ON_REPLICA})
     select ${COLUMNS} from pg_stat_activity a
      where a.pid in (select pid from held) and a.pid <> pg_backend_pid() and a.backend_type not in ${WORKERS}
     union all
     select ${PREPARED} from pg_prepared_xacts p where '-1/' || p.transaction in (select virtualtransaction from held)
     order by "ageMs" desc nulls last`,
    [partitionTable(tid, pid)],
  );
}

/**
 * Ends the client sessions that hold a lock on the partition's hinge on this node or on what it leads to, and
 * apply workers that hold one on its rows: one whose sender was cut off in the middle of a transaction waits
 * for the rest of it. It begins that anew.
 */
export async function endHolders(sql: Sql, tid: number, pid: number): Promise<void> {
  await sql.query(
    `select pg_terminate_backend(a.pid) from pg_stat_activity a
      where a.backend_type = 'client backend' and a.pid <> pg_backend_pid() and a.pid in (select pid from (${ON_HINGE}) h)
         or a.backend_type in ('logical replication apply worker', 'logical replication parallel worker')
            and a.pid in (select pid from (${ON_REPLICA}) r)`,
    [partitionTable(tid, pid)],
  );
}

/**
 * The same for whoever a session waits for now, whatever for: but for pgtide's own, people who work as its
 * role included.
 */
export async function endBlockers(sql: Sql, session: number): Promise<void> {
  await sql.query(
    `select pg_terminate_backend(a.pid) from pg_stat_activity a
      where a.pid = any (pg_blocking_pids($1))
        and (a.usename is distinct from $2 or a.application_name not like 'pgtide %')
        and a.backend_type in ('client backend', 'logical replication apply worker', 'logical replication parallel worker')`,
    [session, TIDE_MANAGER],
  );
}

/** Of the process that serves the session. */
export async function ownProcessId(sql: Sql): Promise<number> {
  const [row] = await sql.query<{ processId: number }>('select pg_backend_pid() as "processId"');
  return must(row, 'process id').processId;
}

/**
 * Sessions with a snapshot from before the mark. A REPEATABLE READ transaction, as every postgres_fdw one is,
 * would look at a partition with eyes from before it came here. No clock, which may have been set back
 * meanwhile: the mark is a transaction of its own, and a snapshot from after it has nothing older than that
 * under way, unless somebody writes since then, who is waited for with it.
 */
export async function olderSnapshots(sql: Sql, mark: string): Promise<Blocker[]> {
  return sql.query<Blocker>(
    `select ${COLUMNS} from pg_stat_activity a
      where a.backend_xmin is not null and age(a.backend_xmin) >= age($1::xid8::xid) and a.pid <> pg_backend_pid()
        and a.backend_type not in ${WORKERS}
      order by a.xact_start`,
    [mark],
  );
}

/** The oldest transaction that has written: logical decoding starts a slot only when it has ended. */
export async function oldestWriter(sql: Sql): Promise<Blocker | null> {
  const [row] = await sql.query<Blocker>(
    `select ${COLUMNS} from pg_stat_activity a
      where a.backend_xid is not null and a.pid <> pg_backend_pid() and a.backend_type not in ${WORKERS}
        and a.xact_start < clock_timestamp() - interval '1 second'
     union all
     select ${PREPARED} from pg_prepared_xacts p where p.prepared < clock_timestamp() - interval '1 second'
     order by "ageMs" desc limit 1`,
  );
  return row ?? null;
}

/** Workers of PostgreSQL that take part in no user's transaction. */
const WORKERS = `('walsender', 'logical replication apply worker', 'logical replication parallel worker',
  'logical replication tablesync worker', 'logical replication launcher', 'autovacuum worker', 'autovacuum launcher')`;

/**
 * For `olderSnapshots`: a transaction id that nobody has had before now, and that has ended when this comes
 * back.
 */
export async function snapshotMark(sql: Sql): Promise<string> {
  const [row] = await sql.query<{ mark: string }>('select pg_current_xact_id()::text as mark');
  return must(row, 'transaction id').mark;
}
