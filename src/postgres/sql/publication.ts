import type { NodeId } from '../../catalog/model.ts';
import { publicationName, SCHEMAS } from '../../catalog/names.ts';
import { ident, qualified, type Sql } from './client.ts';

/** The sender's side of a stream: what it sends. */

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

export async function dropPublication(sql: Sql, to: NodeId): Promise<void> {
  await sql.query(`DROP PUBLICATION IF EXISTS ${ident(publicationName(to))}`);
}

/** Every one that another node subscribes to. */
export async function dropPublications(sql: Sql): Promise<void> {
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
