import type { TableRecord } from '../../catalog/model.ts';
import { partitionTable, SCHEMAS } from '../../catalog/names.ts';
import { must } from '../../core/assert.ts';
import { ident, isLockFailure, literal, qualified, type Sql } from './client.ts';
import { BOOTSTRAP_OID } from './ownership.ts';

/**
 * The CHECK constraint of a replica's table that is equal to the partition constraints of the parent and of
 * the hinge, with this node's oids: ATTACH finds its own constraint implied and does not scan the rows
 * (PostgreSQL manual, ALTER TABLE, "ATTACH PARTITION").
 *
 * `satisfies_hash_partition` opens the parent that it names. An apply worker would wait there for whoever has
 * locked that parent, and a client that did, and whose commit waits for this follower, would wait for itself.
 * So the constraint says something in a manager's sessions only (`tide.attaches()`), and is constant
 * everywhere else: rows come through the table above, which routes them, or from a leader's table where they
 * did.
 */
const CHECK = 'tide_partition';
/** Those of version 0.1.0, which say the same in every session. */
const OLD = ['tide_of_table', 'tide_of_hinge'];

/**
 * Statements that give a replica's table its constraint. A node that runs version 0.1.0 cannot tell its
 * sessions apart yet.
 */
export function partitionChecksSql(table: TableRecord, pid: number): string[] {
  const name = partitionTable(table.tid, pid);
  const satisfies = (relation: string, modulus: number, remainder: number) =>
    `${literal('satisfies_hash_partition(')} || ${literal(relation)}::regclass::oid || ` +
    literal(`::oid, ${modulus}, ${remainder}, ${ident(table.distributeBy)})`);
  const ofTable = satisfies(qualified(table.schema, table.name), table.partitionCount, pid);
  const ofHinge = satisfies(qualified(SCHEMAS.hinge, name), 1, 0);
  const add = (constraint: string, condition: string) =>
    `${literal(`ADD CONSTRAINT ${constraint} CHECK (`)} || ${condition} || ')'`;
  const alter = literal(`ALTER TABLE ${qualified(SCHEMAS.data, name)} `);
  const body =
    `BEGIN IF to_regproc('tide.attaches') IS NULL THEN ` +
    `EXECUTE ${alter} || ${add('tide_of_table', ofTable)} || ', ' || ${add('tide_of_hinge', ofHinge)}; ` +
    `ELSE EXECUTE ${alter} || ${add(CHECK, `'NOT tide.attaches() OR ' || ${ofTable} || ' AND ' || ${ofHinge}`)}; END IF; END`;
  return [`DO ${literal(body)}`];
}

/** How long whoever uses a table queues behind the request for its lock. */
const LOCK_MS = 100;

interface OldChecks {
  name: string;
  condition: string;
  old: string[];
  isAdded: boolean;
  isValid: boolean;
}

/**
 * Replaces the constraints of version 0.1.0 on this server, table after table, beside all that goes on there:
 * a lock that nobody gets past is asked for twice per table, and given up after a moment. Each part is a
 * transaction, and what has been done is read from the server.
 *
 * Gives the number of tables that are done, and of those that were in use and have to be tried again.
 */
export async function renewPartitionChecks(sql: Sql): Promise<{ renewed: number; inUse: number }> {
  const found = await readOldChecks(sql);
  let inUse = 0;
  for (const table of found) {
    try {
      await renew(sql, table);
    } catch (error) {
      await sql.query('ROLLBACK');
      if (!isLockFailure(error)) throw error;
      inUse += 1;
    }
  }
  return { renewed: found.length - inUse, inUse };
}

async function readOldChecks(sql: Sql): Promise<OldChecks[]> {
  return sql.query<OldChecks & Record<string, unknown>>(
    `select c.relname as name,
            string_agg(pg_get_expr(k.conbin, k.conrelid), ' AND ' order by k.conname) filter (where k.conname = any ($2)) as condition,
            array_agg(k.conname::text) filter (where k.conname = any ($2)) as old,
            bool_or(k.conname = $1) as "isAdded", bool_or(k.conname = $1 and k.convalidated) as "isValid"
       from pg_class c join pg_constraint k on k.conrelid = c.oid
      where c.relnamespace = 'tide_data'::regnamespace and k.contype = 'c'
      group by c.oid having bool_or(k.conname = any ($2)) order by c.oid`,
    [CHECK, OLD],
  );
}

/**
 * The old constraints prove until they are dropped what the new one says. So VALIDATE, which reads all rows
 * beside everybody who writes, need not open the parent, for as long as it takes: it runs as a superuser who
 * is no manager, and whom the refusal of DDL has to let by.
 */
async function renew(sql: Sql, { name, condition, old, isAdded, isValid }: OldChecks): Promise<void> {
  const table = qualified(SCHEMAS.data, name);
  const briefly = async (change: string) => {
    await sql.query(
      `BEGIN; SET LOCAL lock_timeout = ${LOCK_MS}; SET LOCAL deadlock_timeout = '5ms'; ALTER TABLE ${table} ${change}; COMMIT`,
    );
  };
  const [other] = await sql.query<{ superuser: string }>(`select pg_get_userbyid(${BOOTSTRAP_OID}) as superuser`);
  const { superuser } = must(other, 'superuser');
  if (!isAdded) await briefly(`ADD CONSTRAINT ${CHECK} CHECK (NOT tide.attaches() OR ${condition}) NOT VALID`);
  if (!isValid)
    await sql.query(
      `BEGIN; SET LOCAL lock_timeout = '2s'; SET LOCAL event_triggers = off; SET LOCAL SESSION AUTHORIZATION ${ident(superuser)};
       ALTER TABLE ${table} VALIDATE CONSTRAINT ${CHECK}; COMMIT`,
    );
  await briefly(old.map((constraint) => `DROP CONSTRAINT ${constraint}`).join(', '));
}
