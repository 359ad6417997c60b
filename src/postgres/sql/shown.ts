import { RELATION_NAMES, RELATIONS, type RelationName, type SqlError } from '../../api/relations.ts';
import { TIDE_USER } from '../config.ts';
import { ident, literal, type Sql } from './client.ts';

/**
 * What a node shows of the cluster in SQL: relations of schema `tide`, which its gateway brings up to date
 * before a statement reads them, and what takes the place of statements that PostgreSQL does not know
 * (ADR 0017). Nothing of it outlives a crash.
 */

/** Rows of a relation, or why they are not known. */
export type Shown = { readonly error: SqlError } | { readonly rows: unknown };

export async function showRows(sql: Sql, name: RelationName, shown: Shown): Promise<void> {
  const [error, rows] = 'error' in shown ? [JSON.stringify(shown.error), null] : [null, JSON.stringify(shown.rows)];
  await sql.query(
    `insert into tide.shown as s (what, at, error, rows) values ($1, clock_timestamp(), $2, $3)
     on conflict (what) do update set at = excluded.at, error = excluded.error, rows = excluded.rows`,
    [name, error, rows],
  );
}

const view = (name: RelationName) => {
  const { columns } = RELATIONS[name];
  const read = columns.map(({ key, type }) => `${ident(key)} pg_catalog.${CATALOG_NAMES[type] ?? type}`);
  const shown = columns.map(({ key, name: called }) => `r.${ident(key)} as ${ident(called)}`);
  return `create or replace view tide.${name} as select ${shown.join(', ')}
  from (values (${literal(name)})) w(what) left join tide.shown s on s.what = w.what,
       pg_catalog.jsonb_to_recordset(tide.checked(w.what, s.at, s.error, s.rows)) as r(${read.join(', ')});`;
};

/** Of types that the catalog calls otherwise. */
const CATALOG_NAMES: Readonly<Record<string, string>> = {
  int: 'int4',
  bigint: 'int8',
  boolean: 'bool',
  'double precision': 'float8',
};

/** Whatever a session has made in front of PostgreSQL's own names is not meant. */
const PLAIN = 'language plpgsql set search_path = pg_catalog, pg_temp as $body$';

/** Idempotent; a part of one transaction, behind schemas and roles. */
export const SHOWN = `
create unlogged table if not exists tide.shown (what text primary key, at timestamptz not null, error jsonb, rows jsonb);

create or replace procedure tide.refuse(state text, why text, details text, what_then text) ${PLAIN}
begin
  raise exception using errcode = state, message = why, detail = details, hint = what_then;
end $body$;

create or replace procedure tide.done() ${PLAIN}
begin
end $body$;

-- What was shown longer ago is nobody's any more: a statement follows at once.
create or replace function tide.checked(relation text, at timestamptz, error jsonb, rows jsonb) returns jsonb ${PLAIN}
begin
  if at is null or at < clock_timestamp() - interval '10 s' then
    raise exception 'what tide.% shows is not up to date', relation
      using errcode = '55000', hint = format('name tide.%s in the statement itself, and send it as tide through the listen port of a node: a view or a function that reads it is not looked into', relation);
  end if;
  if error is not null then
    call tide.refuse(error->>'sqlstate', error->>'message', error->>'detail', error->>'hint');
  end if;
  return rows;
end $body$;

create or replace function tide.known(what text, name text, is_known boolean) returns text volatile ${PLAIN}
begin
  if is_known then return name; end if;
  if what = 'table' then
    raise exception 'the cluster has no table %', name using errcode = '42P01', hint = 'SHOW TABLES lists all; one of another schema than public is named with it';
  end if;
  raise exception 'the cluster has no setting %', name using errcode = '42704', hint = 'SHOW CLUSTER SETTINGS lists all';
end $body$;

${RELATION_NAMES.map(view).join('\n')}
create or replace view tide.routes as select table_name, pid, node, endpoint, epoch, is_alive from tide.partitions where role = 'leader';
grant select on ${[...RELATION_NAMES, 'routes'].map((name) => `tide.${name}`).join(', ')} to ${TIDE_USER} with grant option;
`;
