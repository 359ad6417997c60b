import { RELATION_NAMES, RELATIONS, type RelationName } from '../../api/relations.ts';
import { TIDE_USER } from '../config.ts';
import { ident, literal, type Sql } from './client.ts';

/**
 * What a node shows of the cluster in SQL: relations of schema `tide`, which its gateway brings up to date
 * before a statement reads them (ADR 0017), and what came of commands. Nothing of it outlives a crash.
 */

export interface SqlError {
  readonly sqlstate: string;
  readonly message: string;
  readonly detail: string;
  readonly hint: string;
}

/** One of them is null. */
export interface Outcome {
  readonly error: SqlError | null;
  readonly result: unknown;
}

/** What was shown or left longer ago is nobody's any more: a statement follows at once. */
const FRESH = `interval '10 s'`;

export async function showRows(sql: Sql, name: RelationName, { error, result }: Outcome): Promise<void> {
  await sql.query(
    `insert into tide.shown as s (what, at, error, rows) values ($1, clock_timestamp(), $2, $3)
     on conflict (what) do update set at = excluded.at, error = excluded.error, rows = excluded.rows`,
    [name, json(error), json(result)],
  );
}

/** For the session that `process` serves; in place of what was left for it before. */
export async function leaveOutcome(sql: Sql, process: number, { error, result }: Outcome): Promise<void> {
  await sql.query(
    `with gone as (delete from tide.outcome where at < clock_timestamp() - interval '1 min' and process <> $1)
     insert into tide.outcome as o (process, at, error, result) values ($1, clock_timestamp(), $2, $3)
     on conflict (process) do update set at = excluded.at, error = excluded.error, result = excluded.result`,
    [process, json(error), json(result)],
  );
}

const json = (value: unknown) => (value === null ? null : JSON.stringify(value));

const view = (name: RelationName) => {
  const { columns } = RELATIONS[name];
  const read = columns.map(({ key, type }) => `${ident(key)} ${type}`);
  const shown = columns.map(({ key, name: called }) => `r.${ident(key)} as ${ident(called)}`);
  return `create or replace view tide.${name} as select ${shown.join(', ')}
  from jsonb_to_recordset(tide.rows_of(${literal(name)})) as r(${read.join(', ')});`;
};

/** Idempotent; a part of one transaction, behind schemas and roles. */
export const SHOWN = `
create unlogged table if not exists tide.shown (what text primary key, at timestamptz not null, error jsonb, rows jsonb);
create unlogged table if not exists tide.outcome (process int primary key, at timestamptz not null, error jsonb, result jsonb);

create or replace function tide.fail(error jsonb) returns void language plpgsql set search_path = pg_catalog as $body$
begin
  raise exception using errcode = error->>'sqlstate', message = error->>'message', detail = error->>'detail', hint = error->>'hint';
end $body$;

-- Rows of a relation, as the manager has given them.
create or replace function tide.rows_of(relation text) returns jsonb
language plpgsql stable security definer set search_path = pg_catalog as $body$
declare found record;
begin
  select s.at, s.error, s.rows into found from tide.shown s where s.what = relation;
  if found.at is null or found.at < clock_timestamp() - ${FRESH} then
    raise exception 'what tide.% shows is not up to date', relation
      using errcode = '55000', hint = format('name tide.%s in the statement itself, and send it as tide through the listen port of a node: a view or a function that reads it is not looked into', relation);
  end if;
  if found.error is not null then perform tide.fail(found.error); end if;
  return found.rows;
end $body$;

create or replace function tide.cluster_setting(name text) returns text
language plpgsql stable security definer set search_path = pg_catalog as $body$
declare shown text;
begin
  select r->>'value' into shown from jsonb_array_elements(tide.rows_of('settings')) r where r->>'key' = name;
  if not found then
    raise exception 'the cluster has no setting %', name using errcode = '42704', hint = 'SHOW CLUSTER SETTINGS lists all';
  end if;
  return shown;
end $body$;

-- What came of the command that this session's statement stands for.
create or replace function tide.outcome_here() returns jsonb
language plpgsql volatile security definer set search_path = pg_catalog as $body$
declare found record;
begin
  select o.error, o.result into found from tide.outcome o
   where o.process = pg_backend_pid() and o.at > clock_timestamp() - ${FRESH};
  if found is null then
    raise exception 'nothing was carried out: commands to the cluster are sent through the listen port of a node'
      using errcode = '55000', hint = 'send the statement itself, as tide, outside of transactions that see an older state; if it was prepared, prepare it again';
  end if;
  if found.error is not null then perform tide.fail(found.error); end if;
  return found.result;
end $body$;

create or replace procedure tide.told() language plpgsql set search_path = pg_catalog as $body$
begin
  perform tide.outcome_here();
end $body$;

create or replace function tide.started() returns table (operation bigint) language plpgsql volatile rows 1 set search_path = pg_catalog as $body$
declare id bigint := (tide.outcome_here()->>'operation')::bigint;
begin
  if id is null then raise notice 'there is nothing to do'; return; end if;
  return query select id;
end $body$;

create or replace function tide.planned() returns table (line text) language plpgsql volatile set search_path = pg_catalog as $body$
begin
  return query select jsonb_array_elements_text(tide.outcome_here()->'lines');
end $body$;

create or replace procedure tide.refuse(state text, why text, what_then text) language plpgsql set search_path = pg_catalog as $body$
begin
  raise exception using errcode = state, message = why, hint = what_then;
end $body$;

${RELATION_NAMES.map(view).join('\n')}
create or replace view tide.routes as select table_name, pid, node, endpoint, epoch, is_alive from tide.partitions where role = 'leader';

revoke execute on function tide.rows_of(text), tide.cluster_setting(text), tide.outcome_here() from public;
grant execute on function tide.rows_of(text), tide.cluster_setting(text), tide.outcome_here() to ${TIDE_USER} with grant option;
grant select on ${[...RELATION_NAMES, 'routes'].map((name) => `tide.${name}`).join(', ')} to ${TIDE_USER} with grant option;
`;
