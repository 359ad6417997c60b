import { type TideError, tideError } from '../../core/errors.ts';
import { literal, type Sql } from './client.ts';

/**
 * Refuses columns whose values another server could not take, or would take for something else. Streams send
 * in binary: PostgreSQL asks the type of the column for a send function, and an array has one whatever its
 * elements have, so that the first row would end the stream. Hence every part counts: elements of arrays,
 * base types of domains, subtypes of ranges. Throws TABLE_UNSUPPORTED.
 */
export async function refuseTypes(sql: Sql, relation: string): Promise<void> {
  const [found] = await sql.query<{ column: string; type: string; part: string; why: keyof typeof WHY }>(
    `with recursive parts(attnum, name, whole, part) as (
         select attnum, attname::text, format_type(atttypid, atttypmod), atttypid from pg_attribute
          where attrelid = ${literal(relation)}::regclass and attnum > 0 and not attisdropped
       union
         select p.attnum, p.name, p.whole, inner_type.oid from parts p join pg_type t on t.oid = p.part
          cross join lateral (
            select t.typbasetype where t.typbasetype <> 0
            union all select t.typelem where t.typelem <> 0 and t.typsubscript = 'array_subscript_handler'::regproc
            union all select rngsubtype from pg_range where rngtypid = t.oid
            union all select rngtypid from pg_range where rngmultitypid = t.oid) inner_type(oid)),
     judged as (
       select p.*, case when t.typtype = 'c' then 'row'
                        when t.typsend = 0 or t.typreceive = 0 then 'text-only'
                        when t.typsend::regproc::text ~ '^reg.*send$' then 'object'
                        when t.typcategory = 'Z' and t.typname <> 'char' then 'internal' end as why
         from parts p join pg_type t on t.oid = p.part)
     select name as column, whole as type, format_type(part, null) as part, why from judged
      where why is not null order by attnum limit 1`,
  );
  if (found) throw unsupportedType(found);
}

const WHY = {
  row: 'the columns of another table are not the same everywhere; write them out, or use jsonb',
  'text-only': 'PostgreSQL cannot send its values in binary form, as replication does; use text',
  object: 'it names an object by a number, which is another object, or none, on other nodes; use text',
  internal: 'PostgreSQL keeps it for itself and takes no value of it from another server; use text',
};

function unsupportedType(found: { column: string; type: string; part: string; why: keyof typeof WHY }): TideError {
  const of = found.part === found.type ? '' : `, which is made of ${found.part},`;
  return tideError('TABLE_UNSUPPORTED', {
    what: `type ${found.type}${of} of column ${found.column}`,
    why: WHY[found.why],
  });
}
