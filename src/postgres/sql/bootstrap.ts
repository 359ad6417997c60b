import { createHash } from 'node:crypto';
import { TIDE_DATABASE, TIDE_USER } from '../config.ts';
import { literal, type Sql } from './client.ts';
import { GUARD } from './guard.ts';
import { inTurn, ROLES } from './roles.ts';
import { SHOWN } from './shown.ts';

/**
 * What pgtide needs in a node's database before any table: schemas, roles, the marker table, the triggers'
 * functions, and the guard against DDL that would make nodes differ. Idempotent, one transaction, as the
 * manager's role.
 *
 * SQLSTATEs: TD001 a write reached a follower; TD002 DDL on a distributed table outside `tide`; TD003 an
 * update of the distribution key; TD004 a manager that is one no more (`term.ts`); TD005 a write to a
 * partition without a live follower (`refusal.ts`).
 */
export async function bootstrapDatabase(sql: Sql): Promise<void> {
  await sql.query(
    inTurn(`${BOOTSTRAP}${ROLES}${GUARD}${SHOWN}comment on schema tide is ${literal(BOOTSTRAP_VERSION)};`),
  );
}

/** What `bootstrapDatabase` of some version last made there; null where none has. */
export async function bootstrappedBy(sql: Sql): Promise<string | null> {
  const [row] = await sql.query<{ version: string | null }>(
    `select obj_description(to_regnamespace('tide'), 'pg_namespace') as version`,
  );
  return row?.version ?? null;
}

const BOOTSTRAP = `
create extension if not exists postgres_fdw with schema public;
create schema if not exists tide;
create schema if not exists tide_hinge;
create schema if not exists tide_data;
create schema if not exists tide_remote;

create table if not exists tide.marker (src int primary key, value bigint not null);
create table if not exists tide.distributed (relid oid primary key, tid int not null unique);

-- True once everything node "source" wrote before its marker "wanted" has been applied here. Managers ask with no time to wait: a sleep in
-- here ends by a clock that may be set back meanwhile.
-- Then it is also on disk here: apply workers commit asynchronously, and a server that crashes just after it became the leader would come
-- back without rows that its clients have been told of.
create or replace function tide.await_marker(source int, wanted bigint, timeout_ms int) returns boolean
language plpgsql volatile set search_path = pg_catalog as $body$
declare deadline timestamptz := clock_timestamp() + timeout_ms * interval '1 millisecond';
begin
  loop
    if exists (select from tide.marker where src = source and value >= wanted) then
      perform pg_logical_emit_message(false, 'tide', '', true);
      return true;
    end if;
    if timeout_ms <= 0 or clock_timestamp() >= deadline then return false; end if;
    perform pg_sleep(0.001);
  end loop;
end $body$;

create or replace function tide.not_the_leader() returns trigger language plpgsql as $body$
begin
  raise exception 'this node is not the leader of %.%', tg_table_schema, tg_table_name
    using errcode = 'TD001', hint = 'write through the distributed table; it leads to the leader';
end $body$;

create or replace function tide.no_follower() returns trigger language plpgsql as $body$
begin
  raise exception 'partition % of table % takes no writes: none of its followers is alive', tg_argv[1], tg_argv[0]
    using errcode = 'TD005',
          detail = 'Only its leader has it now, and quorum_lost is fail: what one node could lose is not acknowledged. Reads go on.',
          hint = 'try again when the node of a follower is back (tide partition ls, tide node status), or accept writes on the leader alone: '
                 'tide settings set quorum_lost allow';
end $body$;

create or replace function tide.fixed_key() returns trigger language plpgsql as $body$
begin
  raise exception 'column % is the distribution key of its table and cannot be changed by UPDATE', tg_argv[0]
    using errcode = 'TD003', hint = 'delete the row and insert it with the new key, in one transaction';
end $body$;

-- Whether the session is a manager's: nobody else attaches a replica to its hinge (partition-checks.ts). It is IMMUTABLE so that PostgreSQL works it
-- out wherever it prepares to use a constraint, once per statement: in an apply worker or for a client the constraint is then true without a look at
-- the table that it names, and for the manager it is what ATTACH has to know. It is the same all through a session, and no plan keeps it longer.
-- An apply worker runs as the manager's role, too, but has no client.
create or replace function tide.attaches() returns boolean language plpgsql immutable parallel safe as $body$
begin
  return session_user operator(pg_catalog.=) 'tide_manager' and pg_catalog.inet_client_port() is not null;
end $body$;

-- "$user" would make the schema tide the first place for the user tide: tables would be sought among our own.
alter role ${TIDE_USER} in database ${TIDE_DATABASE} set search_path = public;
`;

/** Changes with every change of what is made. */
export const BOOTSTRAP_VERSION = `pgtide ${createHash('sha256')
  .update(BOOTSTRAP + ROLES + GUARD + SHOWN)
  .digest('hex')
  .slice(0, 12)}`;
