import { TIDE_MANAGER } from '../config.ts';
import { KEEPS_OWNER } from './roles.ts';

/**
 * The guard: event triggers that refuse (TD002) what would reach a distributed table, or what pgtide has made
 * for it, on one node only. They ask who has logged in, which no client can change: not by a setting, not by
 * SET ROLE, not inside a SECURITY DEFINER function. GRANT and REVOKE pass, as does REINDEX: they change
 * nothing that nodes have to agree on.
 */
const OWN_SCHEMAS = `('tide', 'tide_hinge', 'tide_data', 'tide_remote')`;
/** Servers, publications and subscriptions of pgtide's, by what identifies them. */
const OWN_NAMES = String.raw`^"?(tide_(n\d+|to_\d+|\d+_\d+(_next|_past)?)|t\d+_p\d+_fwd_e\d+)"?$`;
const OWN_MAPPINGS = String.raw` on server "?(tide_n\d+|t\d+_p\d+_fwd_e\d+)"?$`;

/** Tables that the command `c` reaches, whatever it has made or changed there. */
const REACHED = `
  select c.objid where c.classid = 'pg_class'::regclass
  union all select indrelid from pg_index where c.classid = 'pg_class'::regclass and indexrelid = c.objid
  union all select tgrelid from pg_trigger where c.classid = 'pg_trigger'::regclass and oid = c.objid
  union all select ev_class from pg_rewrite where c.classid = 'pg_rewrite'::regclass and oid = c.objid
  union all select polrelid from pg_policy where c.classid = 'pg_policy'::regclass and oid = c.objid
  union all select conrelid from pg_constraint where c.classid = 'pg_constraint'::regclass and oid = c.objid
  union all select adrelid from pg_attrdef where c.classid = 'pg_attrdef'::regclass and oid = c.objid
  union all select stxrelid from pg_statistic_ext where c.classid = 'pg_statistic_ext'::regclass and oid = c.objid
  union all select typrelid from pg_type where c.classid = 'pg_type'::regclass and oid = c.objid
  union all select oid from pg_class where c.classid = 'pg_namespace'::regclass and relnamespace = c.objid and tg_tag = 'ALTER SCHEMA'
  union all select prrelid from pg_publication_rel where c.classid = 'pg_publication'::regclass and prpubid = c.objid
  union all select prrelid from pg_publication_rel where c.classid = 'pg_publication_rel'::regclass and oid = c.objid
  union all select s.oid from pg_class s join pg_publication_namespace n on n.pnnspid = s.relnamespace
             where (c.classid = 'pg_publication'::regclass and n.pnpubid = c.objid)
                or (c.classid = 'pg_publication_namespace'::regclass and n.oid = c.objid)`;

export const GUARD = `
create or replace function tide.refuse_ddl() returns event_trigger language plpgsql set search_path = pg_catalog, pg_temp as $body$
declare culprit text;
begin
  if session_user = '${TIDE_MANAGER}' or tg_tag in ('GRANT', 'REVOKE', 'REINDEX') then return; end if;
  -- One that was renamed has its new name already.
  select own into culprit from unnest(array${OWN_SCHEMAS.replace('(', '[').replace(')', ']')}) own where to_regnamespace(own) is null limit 1;
  if not found then select c.object_identity into culprit
    from pg_event_trigger_ddl_commands() c
   where c.schema_name in ${OWN_SCHEMAS}
      or (c.classid in ('pg_foreign_server'::regclass, 'pg_publication'::regclass, 'pg_subscription'::regclass)
          and c.object_identity ~ '${OWN_NAMES}')
      or (c.classid = 'pg_user_mapping'::regclass and c.object_identity ~ '${OWN_MAPPINGS}')
      -- A publication of all tables has pgtide's own in it, and those that are yet to come.
      or (c.classid = 'pg_publication'::regclass and exists (select from pg_publication where oid = c.objid and puballtables))
      or (c.classid = 'pg_namespace'::regclass and c.object_identity in ${OWN_SCHEMAS})
      or (c.classid = 'pg_extension'::regclass and exists (
            select from pg_extension where oid = c.objid and extnamespace::regnamespace::text in ${OWN_SCHEMAS}))
      or exists (select from (${REACHED}) reached(relid)
                   join pg_class r on r.oid = reached.relid
                  where r.relnamespace::regnamespace::text in ${OWN_SCHEMAS}
                     or exists (select from tide.distributed d where d.relid = r.oid))
   limit 1; end if;
  if found then
    raise exception '% on % has to be the same on every node, and this statement would reach one', tg_tag, culprit
      using errcode = 'TD002', hint = 'pgtide carries CREATE TABLE, its indexes and DROP TABLE: tide table create, tide table drop';
  end if;
end $body$;

create or replace function tide.refuse_drop() returns event_trigger language plpgsql set search_path = pg_catalog, pg_temp as $body$
declare culprit text;
begin
  if session_user = '${TIDE_MANAGER}' then return; end if;
  select o.object_identity into culprit
    from pg_event_trigger_dropped_objects() o
   where o.schema_name in ${OWN_SCHEMAS}
      or (o.classid = 'pg_namespace'::regclass and o.object_name in ${OWN_SCHEMAS})
      or (o.classid in ('pg_foreign_server'::regclass, 'pg_publication'::regclass, 'pg_subscription'::regclass)
          and o.object_identity ~ '${OWN_NAMES}')
      or (o.classid = 'pg_user_mapping'::regclass and o.object_identity ~ '${OWN_MAPPINGS}')
      or (o.classid = 'pg_extension'::regclass and o.object_identity = 'postgres_fdw')
      or (o.classid = 'pg_foreign_data_wrapper'::regclass and o.object_identity = '${KEEPS_OWNER}')
      or (o.classid = 'pg_class'::regclass and exists (select from tide.distributed d where d.relid = o.objid))
      -- What hangs on a table is named behind it.
      or (o.object_type in ('trigger', 'rule', 'policy', 'table constraint', 'default value')
          and exists (select from tide.distributed d
                       where d.relid = to_regclass(format('%I.%I', o.address_names[1], o.address_names[2]))))
   limit 1;
  if found then
    raise exception '% on % has to happen on every node, and this statement would reach one', tg_tag, culprit
      using errcode = 'TD002', hint = 'tide table drop removes a distributed table';
  end if;
end $body$;

do $do$ begin
  if not exists (select from pg_event_trigger where evtname = 'tide_refuse_ddl') then
    create event trigger tide_refuse_ddl on ddl_command_end execute function tide.refuse_ddl();
    create event trigger tide_refuse_drop on sql_drop execute function tide.refuse_drop();
  end if;
end $do$;
`;
