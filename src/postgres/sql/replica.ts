import type { NodeId, TableRecord } from '../../catalog/model.ts';
import { partitionTable, SCHEMAS } from '../../catalog/names.ts';
import { tideError } from '../../core/errors.ts';
import { ident, literal, qualified, type Sql } from './client.ts';
import { partitionChecksSql } from './partition-checks.ts';
import { columnsSql, parentExists } from './table.ts';

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

/** Drops a replica's rows. Refuses (REPLICA_IN_USE, or a lock failure) rather than wait where it is still in use. Idempotent. */
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

export interface ReplicaSize {
  tid: number;
  pid: number;
  /** Heap, TOAST and indexes. */
  bytes: number;
  /** The planner's estimate; -1 or stale where the table was never analysed. */
  rows: number;
}

/** Sizes of all replica tables on a node, from the catalog: cheap enough to ask every few seconds. */
export async function readSizes(sql: Sql): Promise<ReplicaSize[]> {
  const rows = await sql.query<{ name: string; bytes: string; rows: string }>(
    `select c.relname as name, pg_total_relation_size(c.oid) as bytes,
            greatest(coalesce(s.n_live_tup, 0), 0) as rows
       from pg_class c left join pg_stat_all_tables s on s.relid = c.oid
      where c.relnamespace = 'tide_data'::regnamespace and c.relkind = 'r'`,
  );
  return rows.flatMap((r) => {
    const match = /^t(\d+)_p(\d+)$/.exec(r.name);
    return match
      ? [{ tid: Number(match[1]), pid: Number(match[2]), bytes: Number(r.bytes), rows: Number(r.rows) }]
      : [];
  });
}
