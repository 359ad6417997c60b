import type { TableRecord } from '../../catalog/model.ts';
import { partitionTable, SCHEMAS } from '../../catalog/names.ts';
import { tideError } from '../../core/errors.ts';
import { TIDE_OWNER, TIDE_USER } from '../config.ts';
import { ident, literal, qualified, type Sql } from './client.ts';
import { columnsSql } from './columns.ts';
import { foreignTableSql } from './hinge.ts';
import { partitionChecksSql } from './partition-checks.ts';

/**
 * The statements that make a table's parent, its hinges and what each leads to on one node. They belong into
 * one transaction: a hinge without a child would silently hide its partition from a query. Replica tables of
 * partitions led here have to exist.
 */
export function parentSql(node: number, table: TableRecord): string[] {
  const parent = qualified(table.schema, table.name);
  const statements = [
    `CREATE SCHEMA IF NOT EXISTS ${ident(table.schema)} AUTHORIZATION ${TIDE_USER}`,
    `CREATE TABLE ${parent} (${columnsSql(table)}) PARTITION BY HASH (${ident(table.distributeBy)})`,
    `ALTER TABLE ${parent} OWNER TO ${TIDE_OWNER}`,
    `INSERT INTO tide.distributed (relid, tid) VALUES (${literal(parent)}::regclass, ${table.tid})`,
  ];
  for (const partition of table.partitions) {
    const name = partitionTable(table.tid, partition.pid);
    const hinge = qualified(SCHEMAS.hinge, name);
    const bounds = `FOR VALUES WITH (MODULUS ${table.partitionCount}, REMAINDER ${partition.pid})`;
    statements.push(
      `CREATE TABLE ${hinge} PARTITION OF ${parent} ${bounds} PARTITION BY HASH (${ident(table.distributeBy)})`,
      `ALTER TABLE ${hinge} OWNER TO ${TIDE_OWNER}`,
    );
    if (partition.leader === node) {
      const replica = qualified(SCHEMAS.data, name);
      statements.push(...partitionChecksSql(table, partition.pid));
      statements.push(`ALTER TABLE ${hinge} ATTACH PARTITION ${replica} FOR VALUES WITH (MODULUS 1, REMAINDER 0)`);
      statements.push(`ALTER TABLE ${replica} DISABLE TRIGGER tide_guard`);
    } else {
      const remote = foreignTableSql(table, partition.pid, partition.leader);
      statements.push(remote.create);
      statements.push(`ALTER TABLE ${hinge} ATTACH PARTITION ${remote.name} FOR VALUES WITH (MODULUS 1, REMAINDER 0)`);
      if (partition.replicas.some((r) => r.node === node)) statements.push(...partitionChecksSql(table, partition.pid));
    }
  }
  return statements;
}

/**
 * Makes the parent with all that hangs on it, in one transaction. Idempotent. Throws TABLE_EXISTS where
 * something else has its name.
 */
export async function createParent(sql: Sql, node: number, table: TableRecord): Promise<void> {
  if (await parentExists(sql, table)) return;
  const taken = await nameTaken(sql, table.schema, table.name);
  if (taken !== null) throw tideError('TABLE_EXISTS', { why: `node ${node} has a ${taken} already` });
  await sql.query(['BEGIN', ...parentSql(node, table), 'COMMIT'].join(';\n'));
}

/**
 * What has the name of a table already, in PostgreSQL's words. The array types that come with others make
 * room by themselves.
 */
export async function nameTaken(sql: Sql, schema: string, name: string): Promise<string | null> {
  const [found] = await sql.query<{ what: string }>(
    `select pg_describe_object('pg_class'::regclass, c.oid, 0) as what
       from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2
     union all
     select pg_describe_object('pg_type'::regclass, t.oid, 0)
       from pg_type t join pg_namespace n on n.oid = t.typnamespace
      where n.nspname = $1 and t.typname = $2 and t.typrelid = 0
        and not exists (select from pg_type e where e.typarray = t.oid)
     limit 1`,
    [schema, name],
  );
  return found?.what ?? null;
}

export async function parentExists(sql: Sql, table: Pick<TableRecord, 'tid'>): Promise<boolean> {
  const rows = await sql.query('select from tide.distributed d join pg_class c on c.oid = d.relid where d.tid = $1', [
    table.tid,
  ]);
  return rows.length > 0;
}

/**
 * Removes the parent with everything that hangs on it on this node, attached replica tables and foreign
 * tables included. Idempotent.
 */
export async function dropParent(sql: Sql, table: TableRecord): Promise<void> {
  const parent = qualified(table.schema, table.name);
  const exists = await parentExists(sql, table);
  const remotes = await sql.query<{ name: string }>(
    `select c.relname as name from pg_class c where c.relnamespace = 'tide_remote'::regnamespace and c.relname like $1`,
    [`t${table.tid}\\_p%`],
  );
  await sql.query(
    [
      'BEGIN',
      "SET LOCAL lock_timeout = '5s'",
      ...(exists ? [`DROP TABLE ${parent} CASCADE`] : []),
      ...remotes.map((r) => `DROP FOREIGN TABLE IF EXISTS ${qualified(SCHEMAS.remote, r.name)}`),
      `DELETE FROM tide.distributed WHERE tid = ${table.tid}`,
      'COMMIT',
    ].join(';\n'),
  );
}
