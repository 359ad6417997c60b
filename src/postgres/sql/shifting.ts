import { tideError } from '../../core/errors.ts';
import { literal, type Sql, sqlstateOf } from './client.ts';

/**
 * Checks and indexes are evaluated where a row is written and again by the apply workers of followers, in
 * sessions with other settings. What is not the same there could hold at the leader and fail at a follower,
 * which would stop the stream. Throws TABLE_UNSUPPORTED.
 */
export async function refuseShifting(sql: Sql, relation: string): Promise<void> {
  await refuseMutableChecks(sql, relation);
  await refuseTextOfSettings(sql, relation);
}

/** PostgreSQL takes any check, but only immutable expressions in an index: so it is asked for one. */
async function refuseMutableChecks(sql: Sql, relation: string): Promise<void> {
  const checks = await sql.query<{ name: string; definition: string; expression: string }>(
    `select conname as name, pg_get_constraintdef(oid) as definition, pg_get_expr(conbin, conrelid) as expression
       from pg_constraint where conrelid = ${literal(relation)}::regclass and contype = 'c' order by conname`,
  );
  for (const { name, definition, expression } of checks) {
    await sql.query('SAVEPOINT mutable');
    try {
      await sql.query(`CREATE INDEX ON ${relation} ((${expression}))`);
    } catch (error) {
      // Anything else, as a check of the whole row, says nothing about that.
      if (sqlstateOf(error) !== '42P17') continue;
      const why = 'it depends on the session that asks, and a follower could not take a row that the leader took';
      throw tideError('TABLE_UNSUPPORTED', {
        what: `constraint ${name}, ${definition},`,
        why: `${why}; use immutable functions only`,
      });
    } finally {
      await sql.query('ROLLBACK TO SAVEPOINT mutable');
    }
  }
}

/**
 * PostgreSQL takes the text of floats, of geometry and of bytea for immutable, although it follows
 * `extra_float_digits` and `bytea_output`. In the stored tree it is a conversion through the type's output
 * function.
 */
async function refuseTextOfSettings(sql: Sql, relation: string): Promise<void> {
  const [found] = await sql.query<{ what: string; type: string }>(
    String.raw`with own as (select ${literal(relation)}::regclass::oid as oid),
          stored as (
            select pg_describe_object('pg_constraint'::regclass, c.oid, 0) as what, c.conbin::text as tree
              from pg_constraint c join own on c.conrelid = own.oid
            union all
            select pg_describe_object('pg_class'::regclass, i.indexrelid, 0), concat(i.indexprs, i.indpred)
              from pg_index i join own on i.indrelid = own.oid)
     select s.what, format_type(t.oid, null) as type from stored s, pg_type t
      where (t.typcategory = 'G' or t.oid in ('float4'::regtype, 'float8'::regtype, 'bytea'::regtype))
        and s.tree ~ format('\{COERCEVIAIO :arg \{[A-Z]+ [^{}]*type %s ', t.oid) limit 1`,
  );
  if (!found) return;
  const why = `the text of ${found.type} follows settings of the session (extra_float_digits, bytea_output)`;
  throw tideError('TABLE_UNSUPPORTED', { what: found.what, why });
}
