import type { NodeId, TableRecord } from '../../catalog/model.ts';
import { partitionTable, SCHEMAS } from '../../catalog/names.ts';
import { tideError } from '../../core/errors.ts';
import { TIDE_OWNER } from '../config.ts';
import { ident, literal, qualified, type Sql } from './client.ts';
import { columnsSql } from './columns.ts';
import { partitionChecksSql } from './partition-checks.ts';
import { parentExists } from './table.ts';

/** The statements that make the table of a replica's rows, guarded and attached to nothing. */
export function replicaSql(table: TableRecord, pid: number): string[] {
  const name = partitionTable(table.tid, pid);
  const replica = qualified(SCHEMAS.data, name);
  const { primaryKey, indexes } = table.definition;
  const key = ident(table.distributeBy);
  return [
    `CREATE TABLE ${replica} (${columnsSql(table)}, PRIMARY KEY (${primaryKey.map(ident).join(', ')}))`,
    ...indexes.map(
      (index, i) =>
        `CREATE ${index.unique ? 'UNIQUE ' : ''}INDEX ${ident(`${name}_i${i}`)} ON ${replica} ${index.definition}`,
    ),
    `CREATE TRIGGER tide_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ${replica} EXECUTE FUNCTION tide.not_the_leader()`,
    `CREATE TRIGGER tide_fixed_key BEFORE UPDATE OF ${key} ON ${replica} FOR EACH ROW ` +
      `WHEN (OLD.${key} IS DISTINCT FROM NEW.${key}) EXECUTE FUNCTION tide.fixed_key(${literal(table.distributeBy)})`,
    `ALTER TABLE ${replica} OWNER TO ${TIDE_OWNER}`,
  ];
}

/** Idempotent. */
export async function createReplica(sql: Sql, table: TableRecord, pid: number): Promise<void> {
  if (await replicaExists(sql, table.tid, pid)) return;
  const checks = (await parentExists(sql, table)) ? partitionChecksSql(table, pid) : [];
  await sql.query([...replicaSql(table, pid), ...checks].join(';\n'));
}

export async function replicaExists(sql: Sql, tid: number, pid: number): Promise<boolean> {
  const rows = await sql.query(`select from pg_class where relnamespace = 'tide_data'::regnamespace and relname = $1`, [
    partitionTable(tid, pid),
  ]);
  return rows.length > 0;
}

/**
 * Drops a replica's rows. Refuses (REPLICA_IN_USE, or a lock failure) rather than wait where it is still in
 * use. Idempotent.
 */
export async function dropReplica(sql: Sql, node: NodeId, tid: number, pid: number): Promise<void> {
  const replica = qualified(SCHEMAS.data, partitionTable(tid, pid));
  const [attached] = await sql.query(
    `select from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where c.relnamespace = 'tide_data'::regnamespace and c.relname = $1`,
    [partitionTable(tid, pid)],
  );
  if (attached) throw tideError('REPLICA_IN_USE', { replica: partitionTable(tid, pid), node });
  await sql.query(`SET LOCAL lock_timeout = '2s'; DROP TABLE IF EXISTS ${replica}`);
}

/** The partitions that a node has replica tables of. */
export async function listReplicas(sql: Sql): Promise<{ tid: number; pid: number }[]> {
  const rows = await sql.query<{ name: string }>(
    `select relname as name from pg_class where relnamespace = 'tide_data'::regnamespace and relkind = 'r'`,
  );
  return rows.flatMap((row) => refOf(row.name) ?? []);
}

export interface ReplicaSize {
  tid: number;
  pid: number;
  /** Heap, TOAST and indexes. */
  bytes: number;
  /** The planner's estimate; -1 or stale where the table was never analysed. */
  rows: number;
  /** False where somebody has the table locked: then `bytes` is what VACUUM or ANALYZE last saw. */
  isExact: boolean;
}

/**
 * A lock may be taken between the look at the locks and the look at the table; the other bound is for a slow
 * disk.
 */
const LOCK_MS = 100;
const SIZES_MS = 5_000;

/**
 * Sizes of all replica tables on a node: cheap enough to ask every few seconds, and asked of no table that is
 * locked against everybody or is about to be. pg_total_relation_size opens the table and all that belongs to
 * it, and would stand in line behind a client's ACCESS EXCLUSIVE for as long as that is held.
 */
export async function readSizes(sql: Sql): Promise<ReplicaSize[]> {
  return sizesOf(sql, null);
}

/** The size of one replica's table, read in the same way; 0 where there is none. */
export async function readBytes(sql: Sql, tid: number, pid: number): Promise<number> {
  const [found] = await sizesOf(sql, partitionTable(tid, pid));
  return found?.bytes ?? 0;
}

async function sizesOf(sql: Sql, name: string | null): Promise<ReplicaSize[]> {
  await sql.query(`BEGIN READ ONLY; SET LOCAL lock_timeout = ${LOCK_MS}; SET LOCAL statement_timeout = ${SIZES_MS}`);
  const rows = await sql.query<{ name: string; bytes: string; rows: string; locked: boolean }>(SIZES, [name]);
  await sql.query('COMMIT');
  return rows.flatMap((r) => {
    const ref = refOf(r.name);
    return ref ? [{ ...ref, bytes: Number(r.bytes), rows: Number(r.rows), isExact: !r.locked }] : [];
  });
}

const SIZES = `
  with tables as materialized (
         select oid, relname, reltoastrelid from pg_class
          where relnamespace = 'tide_data'::regnamespace and relkind = 'r' and ($1::text is null or relname = $1)),
       heaps as (
         select oid as whole, oid from tables
         union all select oid, reltoastrelid from tables where reltoastrelid <> 0),
       parts as materialized (
         select whole, oid from heaps
         union all select h.whole, i.indexrelid from heaps h join pg_index i on i.indrelid = h.oid),
       locked as materialized (
         select distinct p.whole from pg_locks l join parts p on p.oid = l.relation
          where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
            and l.database = (select oid from pg_database where datname = current_database())),
       estimated as (
         select p.whole, sum(c.relpages::bigint) * current_setting('block_size')::int as bytes
           from parts p join pg_class c on c.oid = p.oid where p.whole in (select whole from locked) group by 1)
  select t.relname as name, l.whole is not null as locked,
         coalesce(case when l.whole is null then pg_total_relation_size(t.oid) else e.bytes end, 0) as bytes,
         greatest(coalesce(pg_stat_get_live_tuples(t.oid), 0), 0) as rows
    from tables t left join locked l on l.whole = t.oid left join estimated e on e.whole = t.oid`;

function refOf(name: string): { tid: number; pid: number } | null {
  const match = /^t(\d+)_p(\d+)$/.exec(name);
  return match ? { tid: Number(match[1]), pid: Number(match[2]) } : null;
}
