import { FIRST_USER_OID } from '../../catalog/names.ts';
import { TIDE_MANAGER, TIDE_OWNER } from '../config.ts';
import { isLockFailure, type Sql, sqlstateOf } from './client.ts';

/** Oid of the superuser that initdb has made. */
export const BOOTSTRAP_OID = 10;

const OWN_SCHEMAS = `('tide', 'tide_hinge', 'tide_data', 'tide_remote')`;

/**
 * Everything in a database that has an owner: class, oid, owner, schema. Not what follows something else
 * (indexes, sequences of a column, array types), what belongs to an extension, which PostgreSQL cannot give
 * to somebody else, or temporary tables.
 */
const OWNED = `
  select 'pg_class'::regclass as class, c.oid, relowner as owner, relnamespace as schema from pg_class c
   where relkind in ('r', 'p', 'v', 'm', 'f', 'S') and relpersistence <> 't'
     and not (relkind = 'S' and exists (select from pg_depend d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')))
  union all select 'pg_type'::regclass, t.oid, typowner, typnamespace from pg_type t left join pg_class c on c.oid = t.typrelid
   where typtype <> 'm' and (typrelid = 0 or relkind = 'c') and not exists (select from pg_type e where e.typarray = t.oid)
  union all select 'pg_proc'::regclass, oid, proowner, pronamespace from pg_proc
  union all select 'pg_operator'::regclass, oid, oprowner, oprnamespace from pg_operator
  union all select 'pg_opclass'::regclass, oid, opcowner, opcnamespace from pg_opclass
  union all select 'pg_opfamily'::regclass, oid, opfowner, opfnamespace from pg_opfamily
  union all select 'pg_collation'::regclass, oid, collowner, collnamespace from pg_collation
  union all select 'pg_conversion'::regclass, oid, conowner, connamespace from pg_conversion
  union all select 'pg_ts_dict'::regclass, oid, dictowner, dictnamespace from pg_ts_dict
  union all select 'pg_ts_config'::regclass, oid, cfgowner, cfgnamespace from pg_ts_config
  union all select 'pg_statistic_ext'::regclass, oid, stxowner, stxnamespace from pg_statistic_ext
  union all select 'pg_namespace'::regclass, oid, nspowner, oid from pg_namespace
  union all select 'pg_foreign_data_wrapper'::regclass, oid, fdwowner, 0 from pg_foreign_data_wrapper
  union all select 'pg_foreign_server'::regclass, oid, srvowner, 0 from pg_foreign_server
  union all select 'pg_publication'::regclass, oid, pubowner, 0 from pg_publication
  union all select 'pg_subscription'::regclass, oid, subowner, 0 from pg_subscription
   where subdbid = (select oid from pg_database where datname = current_database())
  union all select 'pg_event_trigger'::regclass, oid, evtowner, 0 from pg_event_trigger
  union all select 'pg_language'::regclass, oid, lanowner, 0 from pg_language
  union all select 'pg_largeobject'::regclass, oid, lomowner, 0 from pg_largeobject_metadata`;

/** Only a superuser may own these. */
const FOR_SUPERUSERS = `(o.class in ('pg_foreign_data_wrapper'::regclass, 'pg_event_trigger'::regclass, 'pg_subscription'::regclass)
  or (o.class = 'pg_publication'::regclass and exists (select from pg_publication p where p.oid = o.oid
       and (p.puballtables or exists (select from pg_publication_namespace n where n.pnpubid = p.oid)))))`;

/** What the superuser of initdb has is `$1`'s; everything else stays whose it is. */
const CLIENTS = `case when o.owner <> ${BOOTSTRAP_OID} then pg_get_userbyid(o.owner)
  when ${FOR_SUPERUSERS} then '${TIDE_MANAGER}' else $1::name end`;

/** In the database where distributed tables are, pgtide's own comes first. */
const OWN_FIRST = `case
  when o.class = 'pg_class'::regclass and (o.schema::regnamespace::text in ('tide_hinge', 'tide_data', 'tide_remote')
    or o.oid in (select relid from tide.distributed)) then '${TIDE_OWNER}'
  when o.schema::regnamespace::text in ${OWN_SCHEMAS}
    or (o.class in ('pg_foreign_server'::regclass, 'pg_publication'::regclass, 'pg_subscription'::regclass, 'pg_event_trigger'::regclass)
        and i.identity ~ '^(tide_|t[0-9]+_p[0-9]+_fwd_)') then '${TIDE_MANAGER}'
  else ${CLIENTS} end`;

/** SQLSTATEs of something that was dropped meanwhile: relation, object, function, schema. */
const GONE = ['42P01', '42704', '42883', '3F000'];
/** How long whoever uses something queues behind the request for its lock. */
const LOCK_MS = 100;

/**
 * Gives everything in the database to whom it belongs: distributed tables to their owner, the rest of
 * pgtide's to the manager, and what the superuser of initdb owns to `clients`. Beside all that goes on there,
 * one after the other: a lock that others would queue behind is given up after a moment, and asked for again
 * at the next call. What initdb has made stays with the superuser; large objects, of which it makes none, may
 * have any oid. Gives how many are left. Needs a session.
 */
export async function giveToOwners(sql: Sql, clients: string): Promise<number> {
  const [pgtide] = await sql.query(`select where to_regclass('tide.distributed') is not null`);
  const found = await sql.query<{ type: string; identity: string; to: string }>(
    `with owned(class, oid, owner, schema) as (${OWNED}),
          wanted as (
            select o.oid, o.owner, i.type, i.identity, ${pgtide ? OWN_FIRST : CLIENTS} as to
              from owned o cross join lateral pg_identify_object(o.class, o.oid, 0) i
             where (o.oid >= ${FIRST_USER_OID} or o.class = 'pg_largeobject'::regclass) and not exists (
               select from pg_depend d where d.classid = o.class and d.objid = o.oid and d.deptype = 'e'))
     select replace(type, 'statistics object', 'statistics') as type, identity, quote_ident("to") as to from wanted where "to" <> pg_get_userbyid(owner) order by oid`,
    [clients],
  );
  let inUse = 0;
  for (const { type, identity, to } of found) {
    try {
      await sql.query(
        `BEGIN; SET LOCAL lock_timeout = ${LOCK_MS}; SET LOCAL deadlock_timeout = '5ms'; ALTER ${type} ${identity} OWNER TO ${to}; COMMIT`,
      );
    } catch (error) {
      await sql.query('ROLLBACK');
      const isGone = GONE.includes(sqlstateOf(error) ?? '');
      if (!isLockFailure(error) && !isGone) throw error;
      inUse += 1;
    }
  }
  return inUse;
}
