import { must } from '../../core/assert.ts';
import { TIDE_BOOTSTRAP, TIDE_MANAGER, TIDE_OWNER, TIDE_PEER, TIDE_STREAM, TIDE_USER } from '../config.ts';
import { ident, literal, type Sql } from './client.ts';
import { mappingSql } from './hinge.ts';
import { BOOTSTRAP_OID, giveToOwners } from './ownership.ts';
import { inTurn } from './roles.ts';

/**
 * How the superuser `tide` of version 0.1.0 becomes an ordinary role, beside all that goes on. There it is
 * the superuser of initdb, which cannot be taken its rights: so another role gets all that it has, table
 * after table, and then its name. What has been done is read from the server; every part can be cut off and
 * done again.
 */

/** Who gets the name, as a superuser until then: what has changed hands may be used as before. */
const NEXT = 'tide_next';

/** Servers that lead to other nodes, and to the rows there past their hinges. */
const LEADS_TO_NODES = `srvname ~ '^(tide_n|t[0-9]+_p[0-9]+_fwd_e)[0-9]+$'`;

/**
 * Other nodes are reached, by whoever it is, and send, as the roles that are made for it; nobody is kept out
 * yet. Idempotent.
 */
export async function useOwnRoles(sql: Sql): Promise<void> {
  // Who gets the clients' name is not who has it now, and finds no mapping of that one.
  const closed = await sql.query<{ server: string }>(
    `select srvname as server from pg_foreign_server s where ${LEADS_TO_NODES}
        and not exists (select from pg_user_mapping m where m.umserver = s.oid and m.umuser = 0)`,
  );
  for (const { server } of closed) await sql.query(mappingSql(server));
  const mappings = await sql.query<{ server: string }>(
    `select srvname as server from pg_user_mappings
      where usename = $1 and ${LEADS_TO_NODES} and not ('user=${TIDE_PEER}' = any (umoptions))`,
    [TIDE_USER],
  );
  for (const { server } of mappings) {
    // Changed, not exchanged: a transaction that has been there already goes on as it began.
    await sql.query(
      `ALTER USER MAPPING FOR ${TIDE_USER} SERVER ${ident(server)} OPTIONS (SET user ${literal(TIDE_PEER)}, ADD password_required 'false')`,
    );
  }
  const streams = await sql.query<{ name: string; conninfo: string }>(
    String.raw`select subname as name, regexp_replace(subconninfo, $1, 'user=${TIDE_STREAM} ') as conninfo
       from pg_subscription where subname like 'tide\_%' and (subconninfo ~ $1 or not subrunasowner)`,
    [`\\muser='?${TIDE_USER}'? `],
  );
  for (const { name, conninfo } of streams) {
    await sql.query(
      `ALTER SUBSCRIPTION ${ident(name)} CONNECTION ${literal(conninfo)};
       ALTER SUBSCRIPTION ${ident(name)} SET (run_as_owner = true)`,
    );
  }
}

/** Runs `work` in a session of the manager's in another database of the server. */
export type InDatabase = (database: string, work: (sql: Sql) => Promise<number>) => Promise<number>;

/**
 * One try to make clients of a server ordinary. `done`: they are, and nobody is left who came in before. Else
 * what is left, in words; the next call goes on. `sql`: a session in the database of pgtide.
 */
export async function weakenClients(sql: Sql, elsewhere: InDatabase): Promise<'already' | 'done' | string> {
  const before = await readClients(sql);
  if (before.isDone) return 'already';
  if (before.oid === BOOTSTRAP_OID) {
    await sql.query(inTurn(MAKE_NEXT));
    const left = await giveAll(sql, elsewhere, NEXT);
    if (left > 0) return `${left} objects are in use and change their owner later`;
    await sql.query(inTurn(TAKE_THE_NAME));
  }
  await sql.query(inTurn(ORDINARY));
  const left = await giveAll(sql, elsewhere, TIDE_USER);
  const inside = await endOld(sql);
  if (left > 0) return `${left} objects are in use and change their owner later`;
  if (inside > 0) return `${inside} sessions that came in as a superuser are being ended`;
  return 'done';
}

/**
 * An apply worker is who its subscription belonged to when PostgreSQL's launcher looked: one that it starts
 * beside a change of owner stays who that was, and never finds out.
 */
const OLD_WORKERS = `select a.pid from pg_stat_subscription w join pg_subscription s on s.oid = w.subid join pg_stat_activity a on a.pid = w.pid
  where a.usesysid = ${BOOTSTRAP_OID} and s.subowner <> ${BOOTSTRAP_OID}`;

interface Clients {
  oid: number;
  isDone: boolean;
}

async function readClients(sql: Sql): Promise<Clients> {
  const [row] = await sql.query<{ oid: number; isDone: boolean }>(
    `select t.oid::int as oid, not t.rolsuper and (select datdba from pg_database where datname = current_database()) = t.oid
            and not b.rolcanlogin
            and not exists (select from pg_class where relowner = b.oid and oid >= 16384 and relkind in ('r', 'p', 'v', 'm', 'f') and relpersistence <> 't'
                               and not exists (select from pg_depend d where d.objid = pg_class.oid and d.deptype = 'e'))
            and not exists (select from pg_stat_activity where usesysid = b.oid and backend_type = 'client backend')
            and not exists (${OLD_WORKERS}) as "isDone"
       from pg_roles t, pg_roles b where t.rolname = $1 and b.oid = ${BOOTSTRAP_OID}`,
    [TIDE_USER],
  );
  return must(row, `role ${TIDE_USER}`);
}

async function giveAll(sql: Sql, elsewhere: InDatabase, clients: string): Promise<number> {
  let left = await giveToOwners(sql, clients);
  const others = await sql.query<{ name: string }>(
    'select datname as name from pg_database where datallowconn and not datistemplate and datname <> current_database() order by 1',
  );
  for (const { name } of others) left += await elsewhere(name, (there) => giveToOwners(there, clients));
  return left;
}

const MAKE_NEXT = `do $do$ begin
  if to_regrole('${NEXT}') is null then create role ${NEXT} nologin superuser; end if;
end $do$;`;

/**
 * In one transaction: the name, what was set for it, whom it was granted to and what it was granted, and the
 * databases. It may see to the roles that were made before as to those that it makes from now on (PostgreSQL
 * manual, CREATEROLE), unless they can do what it cannot.
 */
const TAKE_THE_NAME = `do $do$
declare one record;
begin
  for one in select d.datname, split_part(s, '=', 1) as name, substr(s, strpos(s, '=') + 1) as value
               from pg_db_role_setting r left join pg_database d on d.oid = r.setdatabase, unnest(r.setconfig) s where r.setrole = ${BOOTSTRAP_OID}
  loop
    perform set_config(one.name, one.value, true);
    execute format('alter role ${NEXT} %s set %I from current', case when one.datname is not null then format('in database %I', one.datname) end, one.name);
  end loop;
  for one in select m.member::regrole as member, m.admin_option::text, m.inherit_option::text, m.set_option::text from pg_auth_members m
              where m.roleid = ${BOOTSTRAP_OID}
  loop
    execute format('revoke ${TIDE_USER} from %s cascade', one.member);
    execute format('grant ${NEXT} to %s with admin %s, inherit %s, set %s', one.member, one.admin_option, one.inherit_option, one.set_option);
  end loop;
  for one in select m.roleid::regrole as role from pg_auth_members m join pg_roles r on r.oid = m.roleid
              where m.member = ${BOOTSTRAP_OID} and not r.rolsuper and m.roleid::regrole::text <> '${TIDE_OWNER}'
  loop
    execute format('grant %s to ${NEXT}', one.role);
  end loop;
  for one in select oid::regrole as role from pg_roles
              where oid >= 16384 and rolname not in ('${TIDE_MANAGER}', '${TIDE_OWNER}', '${TIDE_PEER}', '${TIDE_STREAM}', '${NEXT}')
                and not (rolsuper or rolreplication or rolbypassrls or rolcreatedb)
                -- Nor its own members: PostgreSQL takes no circle.
                and not pg_has_role(oid, '${NEXT}', 'member')
  loop
    execute format('grant %s to ${NEXT} with admin true, inherit false, set false', one.role);
  end loop;
  for one in select datname from pg_database where datdba = ${BOOTSTRAP_OID} and oid >= 16384
  loop
    execute format('alter database %I owner to ${NEXT}', one.datname);
  end loop;
  for one in select rolpassword from pg_authid where oid = ${BOOTSTRAP_OID} and rolpassword like 'SCRAM%'
  loop
    execute format('alter role ${NEXT} password %L', one.rolpassword);
  end loop;
  alter role ${TIDE_USER} rename to ${TIDE_BOOTSTRAP};
  alter role ${NEXT} rename to ${TIDE_USER};
  alter role ${TIDE_BOOTSTRAP} nologin password null;
  alter role ${TIDE_USER} login;
end $do$;`;

/** PostgreSQL's own databases are the manager's: from there the owner of pgtide's could drop that. */
const ORDINARY = `
alter role ${TIDE_USER} nosuperuser nocreatedb createrole noreplication nobypassrls;
grant ${TIDE_OWNER} to ${TIDE_USER} with inherit true, set false;
do $do$ begin
  if (select datdba from pg_database where datname = current_database()) <> '${TIDE_USER}'::regrole then
    execute format('alter database %I owner to ${TIDE_USER}', current_database());
  end if;
end $do$;
revoke connect on database postgres, template1 from public;
`;

/** How long a transaction that began before may go on. */
const LAST_MS = 5_000;

/**
 * Ends sessions of the superuser of initdb, which was everybody's: those that do nothing at once, the others
 * in time, and workers, which begin anew. Gives how many it has found.
 */
async function endOld(sql: Sql): Promise<number> {
  const found = await sql.query(
    `select case when backend_type <> 'client backend' or state = 'idle' or clock_timestamp() - xact_start > interval '${LAST_MS} ms'
            then pg_terminate_backend(pid) end
       from pg_stat_activity where usesysid = ${BOOTSTRAP_OID} and (backend_type = 'client backend' or pid in (${OLD_WORKERS}))`,
  );
  return found.length;
}
