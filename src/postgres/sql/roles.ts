import { TIDE_DATABASE, TIDE_MANAGER, TIDE_OWNER, TIDE_PEER, TIDE_STREAM, TIDE_USER } from '../config.ts';
import type { Sql } from './sql.ts';

/** One transaction that changes what pgtide has in a database, and waits for any other that does. */
export const inTurn = (statements: string) =>
  `begin;\nselect pg_advisory_xact_lock(7461646501);\n${statements}\ncommit;\n`;

/**
 * The roles between which rights are divided (ADR 0012). `tide` has the rights of the tables' owner without
 * being able to become it, so that what it may not do is refused by the guard, which says why. It gets to no
 * hinge and to no replica's rows but through a table: schemas and foreign servers are the manager's.
 */

/**
 * REASSIGN OWNED BY tide_owner is no event, so no guard sees it, and whoever inherits a role may do it. It
 * fails on what only a superuser may give away: a foreign data wrapper, which leads nowhere.
 */
export const KEEPS_OWNER = 'tide_keeps_owner';

const ORDINARY = 'nosuperuser nocreatedb nocreaterole nobypassrls';
const FORWARDED = 'select, insert, update, delete, truncate';

const whatThatRoleMakes = (role: string) => `
alter default privileges for role ${role} in schema tide_hinge, tide_data grant ${FORWARDED} on tables to ${TIDE_PEER};
alter default privileges for role ${role} in schema tide_data grant select on tables to ${TIDE_STREAM};`;

/** Idempotent; a part of one transaction, behind the schemas. */
export const ROLES = `
do $do$ begin
  if to_regrole('${TIDE_OWNER}') is null then create role ${TIDE_OWNER}; end if;
  if to_regrole('${TIDE_PEER}') is null then create role ${TIDE_PEER}; end if;
  if to_regrole('${TIDE_STREAM}') is null then create role ${TIDE_STREAM}; end if;
end $do$;
do $do$ begin
  if not exists (select from pg_foreign_data_wrapper where fdwname = '${KEEPS_OWNER}') then
    create foreign data wrapper ${KEEPS_OWNER};
    alter role ${TIDE_OWNER} superuser;
    alter foreign data wrapper ${KEEPS_OWNER} owner to ${TIDE_OWNER};
  end if;
end $do$;
alter role ${TIDE_OWNER} nologin noreplication ${ORDINARY};
alter role ${TIDE_PEER} login noreplication ${ORDINARY};
alter role ${TIDE_STREAM} login replication ${ORDINARY};
grant ${TIDE_OWNER} to ${TIDE_USER} with inherit true, set false;
grant pg_use_reserved_connections to ${TIDE_PEER};
-- Also where the owner has closed the database to everybody.
grant connect on database ${TIDE_DATABASE} to ${TIDE_PEER}, ${TIDE_STREAM};

-- The guard asks in the session of whoever has run the statement.
grant usage on schema tide to public;
grant select on tide.distributed to public;
-- CREATE INDEX on a table makes indexes there, and gets to the guard then.
grant create on schema tide_hinge, tide_data to ${TIDE_OWNER};
grant usage on schema tide_hinge, tide_data to ${TIDE_PEER};
grant usage on schema tide_data to ${TIDE_STREAM};
grant ${FORWARDED} on all tables in schema tide_hinge, tide_data to ${TIDE_PEER};
grant select on all tables in schema tide_data to ${TIDE_STREAM};
${whatThatRoleMakes(TIDE_MANAGER)}
-- A manager of version 0.1.0 makes its tables as tide.
do $do$ begin
  if (select rolsuper from pg_roles where rolname = '${TIDE_USER}') then ${whatThatRoleMakes(TIDE_USER)}
  end if;
end $do$;
`;

/**
 * Makes the roles on a server whose node still runs version 0.1.0, so that a manager of this one can work
 * there: what it makes belongs to them. Nothing is taken from anybody yet.
 */
export async function ensureRoles(sql: Sql): Promise<void> {
  const [found] = await sql.query<{ older: boolean }>(
    `select to_regclass('tide.distributed') is not null and to_regrole('${TIDE_STREAM}') is null as older`,
  );
  if (found?.older) await sql.query(inTurn(ROLES));
}
