import { tideError } from '../../core/errors.ts';
import { literal, type Sql } from './client.ts';

/**
 * Refuses a table that its replicas would not equal. `asked`: the traits of the table as the user's statement
 * has made it, `got`: as pgtide makes it from what it understood. What one has and the other has not would be
 * lost without a word. Throws TABLE_UNSUPPORTED.
 */
export function requireSame(asked: readonly string[], got: readonly string[]): void {
  const [lost] = without(asked, got);
  const [instead] = without(got, asked);
  if (lost === undefined && instead === undefined) return;
  const what = lost ?? 'the table';
  const why = instead === undefined ? 'its replicas would not have it' : `its replicas would have: ${instead}`;
  throw tideError('TABLE_UNSUPPORTED', { what, why });
}

/** As many of each as `a` has more than `b`. */
function without(a: readonly string[], b: readonly string[]): string[] {
  const left = [...b];
  return a.filter((trait) => {
    const at = left.indexOf(trait);
    if (at >= 0) left.splice(at, 1);
    return at < 0;
  });
}

/**
 * All that PostgreSQL knows of a table, but for the names of its keys and indexes, which differ from replica
 * to replica: a line each, in words that say what it is. A unique constraint counts as its index. PostgreSQL
 * renders them, with the session's search_path.
 */
export async function readTraits(sql: Sql, relation: string): Promise<string[]> {
  const rows = await sql.query<{ trait: string }>(
    `with own as (select c.* from pg_class c where c.oid = ${literal(relation)}::regclass),
     ${COLUMNS}, ${CONSTRAINTS}, ${INDEXES}, ${TABLE}
     select trait from columns union all select trait from constraints
     union all select trait from indexes union all select trait from whole order by trait`,
  );
  return rows.map((row) => row.trait);
}

/** The words of the statement where there are such, else those of the catalog. */
const COLUMNS = `columns(trait) as (
  select format('%s %s of column %I', each.what, each.value, a.attname)
    from own join pg_attribute a on a.attrelid = own.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
   cross join lateral (values
     ('place', a.attnum::text),
     ('type', format_type(a.atttypid, a.atttypmod)),
     ('NOT NULL', nullif(a.attnotnull, false)::text),
     ('COLLATE', nullif(a.attcollation, 0)::regcollation::text),
     ('DEFAULT', case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end),
     ('GENERATED', nullif(a.attgenerated, '')::text || ' ' || pg_get_expr(d.adbin, d.adrelid)),
     ('IDENTITY', nullif(a.attidentity, '')::text),
     ('STORAGE', case a.attstorage when 'p' then 'PLAIN' when 'e' then 'EXTERNAL' when 'm' then 'MAIN' else 'EXTENDED' end),
     ('COMPRESSION', case a.attcompression when 'p' then 'pglz' when 'l' then 'lz4' end),
     ('STATISTICS', a.attstattarget::text),
     ('options', a.attoptions::text)) each(what, value)
   where each.value is not null)`;

const CONSTRAINTS = `constraints(trait) as (
  select case when c.contype = 'c' then format('CONSTRAINT %I ', c.conname) else '' end || pg_get_constraintdef(c.oid)
    from own join pg_constraint c on c.conrelid = own.oid where c.contype not in ('p', 'u'))`;

const INDEXES = `indexes(trait) as (
  select concat_ws(' ',
           case when i.indisprimary then 'PRIMARY KEY' when i.indisunique then 'UNIQUE' else 'INDEX' end,
           ${indexTail('i', 'x', 'own')},
           case when not i.indimmediate then case when c.condeferred then 'DEFERRABLE INITIALLY DEFERRED' else 'DEFERRABLE' end end,
           case when c.conperiod then 'WITHOUT OVERLAPS' end,
           (select 'TABLESPACE ' || quote_ident(spcname) from pg_tablespace where oid = x.reltablespace),
           case when i.indisclustered then 'CLUSTER' end, case when i.indisreplident then 'REPLICA IDENTITY' end)
    from own join pg_index i on i.indrelid = own.oid join pg_class x on x.oid = i.indexrelid
    left join pg_constraint c on c.conindid = x.oid and c.contype in ('p', 'u', 'x'))`;

const TABLE = `whole(trait) as (
  select format('%s %s', each.what, each.value)
    from own left join pg_class toast on toast.oid = own.reltoastrelid
    left join pg_am am on am.oid = own.relam
   cross join lateral (values
     ('kind', own.relkind::text || own.relpersistence::text),
     ('USING', am.amname::text),
     ('WITH', own.reloptions::text),
     ('WITH (toast)', toast.reloptions::text),
     ('REPLICA IDENTITY', own.relreplident::text),
     ('ROW LEVEL SECURITY', nullif(own.relrowsecurity or own.relforcerowsecurity, false)::text),
     ('RULES', nullif(own.relhasrules, false)::text),
     ('TABLESPACE', nullif(own.reltablespace, 0)::text),
     ('OF', nullif(own.reloftype, 0)::regtype::text),
     ('INHERITS', (select string_agg(inhparent::regclass::text, ', ') from pg_inherits where inhrelid = own.oid))) each(what, value)
   where each.value is not null)`;

/**
 * SQL for what pg_get_indexdef says behind the table's name, `USING btree (a) WHERE …`: its beginning is
 * built again from the catalog and cut off by length, since the names in it may hold anything. Arguments:
 * aliases of pg_index, and of pg_class for index and table.
 */
export function indexTail(index: string, itself: string, table: string): string {
  const begin =
    `format('CREATE %sINDEX %I ON %I.%I ', case when ${index}.indisunique then 'UNIQUE ' else '' end, ` +
    `${itself}.relname, (select nspname from pg_namespace where oid = ${table}.relnamespace), ${table}.relname)`;
  return `substr(pg_get_indexdef(${itself}.oid), length(${begin}) + 1)`;
}
