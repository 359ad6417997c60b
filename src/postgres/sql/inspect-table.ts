import type { NodeId, TableDefinition, TableRecord } from '../../catalog/model.ts';
import { FIRST_USER_OID, foreignServerName, partitionTable, SCHEMAS } from '../../catalog/names.ts';
import { messageOf, TideError, tideError } from '../../core/errors.ts';
import type { InspectedTable } from '../../manager/ports.ts';
import { loadParser, type Node, parseAll } from '../../sql/parser.ts';
import { ident, literal, qualified, type Sql, sqlstateOf } from './client.ts';
import { refuseTypes } from './column-types.ts';
import { indexTail, readTraits, requireSame } from './compare-tables.ts';
import { replicaSql } from './replica.ts';
import { refuseShifting } from './shifting.ts';
import { nameTaken, parentSql } from './table.ts';

/**
 * Understands `CREATE TABLE …[; CREATE INDEX …]` by running it in a transaction that is rolled back, and
 * reads the result from the catalog: PostgreSQL itself resolves types, defaults and constraints. That is done
 * in a client's session (`asClient`): functions that the text names may run in it. Then all that would be
 * made of it is made in one of the manager's, rolled back too, and has to equal it. Refuses, with a reason,
 * what a distributed table cannot have. Throws TABLE_UNSUPPORTED, TABLE_EXISTS, SQL_REFUSED and those of its
 * key.
 */
export async function inspectTable(
  sql: Sql,
  asClient: <T>(work: (sql: Sql) => Promise<T>) => Promise<T>,
  node: NodeId,
  text: string,
  distributeBy: string | undefined,
): Promise<InspectedTable> {
  const named = await readStatement(text);
  const { table, traits } = await asClient((client) => understand(client, node, named, text, distributeBy));
  await sql.query("BEGIN; SET LOCAL lock_timeout = '5s'");
  try {
    await makeOnce(sql, table, traits);
    return table;
  } catch (error) {
    throw asRefusal(error, node, text);
  } finally {
    await sql.query('ROLLBACK');
  }
}

/** What the text makes, and what PostgreSQL says of it. */
async function understand(
  sql: Sql,
  node: NodeId,
  { schema, name }: { schema: string; name: string },
  text: string,
  distributeBy: string | undefined,
): Promise<{ table: InspectedTable; traits: string[] }> {
  const relation = qualified(schema, name);
  await sql.query("BEGIN; SET LOCAL search_path = public; SET LOCAL lock_timeout = '5s'");
  try {
    const taken = await nameTaken(sql, schema, name);
    if (taken !== null) throw tideError('TABLE_EXISTS', { why: `node ${node} has a ${taken} already` });
    await sql.query(`CREATE SCHEMA IF NOT EXISTS ${ident(schema)}`);
    await sql.query(text);
    // Defaults and checks are read back with names that mean the same under every search_path.
    await sql.query('SET LOCAL search_path = pg_catalog');
    const definition = await readDefinition(sql, relation);
    await refuseOwnObjects(sql, relation);
    await refuseTypes(sql, relation);
    await refuseShifting(sql, relation);
    const key = chooseKey(definition, `${schema}.${name}`, distributeBy);
    await checkHashable(sql, relation, key, definition);
    return { table: { schema, name, distributeBy: key, definition }, traits: await readTraits(sql, relation) };
  } catch (error) {
    throw asRefusal(error, node, text);
  } finally {
    await sql.query('ROLLBACK');
  }
}

function asRefusal(error: unknown, node: NodeId, text: string): unknown {
  const sqlstate = sqlstateOf(error);
  if (error instanceof TideError) return error;
  if (sqlstate === '42P07') return tideError('TABLE_EXISTS', { why: `${messageOf(error)} on node ${node}` });
  if (sqlstate === null || sqlstate.startsWith('57')) return error;
  return tideError('SQL_REFUSED', { why: messageOf(error), sqlstate, statement: text.trim().slice(0, 80) });
}

interface RangeVar {
  schemaname?: string;
  relname?: string;
  relpersistence?: string;
}

/** The one table the text makes. Anything else in it is refused before it touches a server. */
async function readStatement(text: string): Promise<{ schema: string; name: string }> {
  const statements = await parseSql(text);
  const [first, ...rest] = statements;
  const create = first?.CreateStmt;
  if (!create)
    throw unsupported('the statement', 'only CREATE TABLE, followed by CREATE INDEX on the same table, is taken');
  const relation = create.relation as RangeVar;
  const schema = relation.schemaname ?? 'public';
  const name = relation.relname ?? '';
  const clauses: [string, string][] = [
    ['inhRelations', create.partspec === undefined && create.partbound === undefined ? 'INHERITS' : 'PARTITION OF'],
    ['partspec', 'PARTITION BY (pgtide partitions the table itself)'],
    ['ofTypename', 'OF type'],
    ['options', 'WITH (storage parameters)'],
    ['tablespacename', 'TABLESPACE'],
    ['accessMethod', 'USING access method'],
    ['if_not_exists', 'IF NOT EXISTS'],
  ];
  for (const [field, clause] of clauses)
    if (create[field]) throw unsupported(clause, 'a distributed table cannot have it');
  if (relation.relpersistence === 't') throw unsupported('TEMPORARY', 'a distributed table is seen on every node');
  if (relation.relpersistence === 'u') throw unsupported('UNLOGGED', 'followers are fed from the write-ahead log');
  if (/^(tide|tide_.*|pg_.*|information_schema)$/.test(schema)) throw unsupported(`schema ${schema}`, 'it is reserved');
  for (const element of (create.tableElts as Node[]) ?? []) {
    if (element.TableLikeClause) throw unsupported('LIKE', 'write the columns out');
  }
  for (const statement of rest) {
    const on = statement.IndexStmt?.relation as RangeVar | undefined;
    if (on?.relname !== name || (on.schemaname ?? 'public') !== schema) {
      throw unsupported('a second statement', `only CREATE INDEX on ${schema}.${name} may follow`);
    }
    if (statement.IndexStmt?.concurrent)
      throw unsupported('CONCURRENTLY', 'the table is still empty; leave the word out');
  }
  return { schema, name };
}

async function parseSql(text: string): Promise<readonly Node[]> {
  await loadParser();
  const parsed = parseAll(text);
  if ('because' in parsed)
    throw tideError('SQL_REFUSED', { why: parsed.because, sqlstate: '42601', statement: text.trim().slice(0, 80) });
  return parsed;
}

function unsupported(what: string, why: string): TideError {
  return tideError('TABLE_UNSUPPORTED', { what, why });
}

interface ColumnRow {
  name: string;
  type: string;
  collation: string | null;
  notNull: boolean;
  default: string | null;
  identity: string;
  generated: string;
  builtin: boolean;
}

async function readDefinition(sql: Sql, relation: string): Promise<TableDefinition> {
  const columns = await sql.query<ColumnRow>(
    `select a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
            case when a.attcollation <> t.typcollation then (select quote_ident(nspname) || '.' || quote_ident(collname)
              from pg_collation c join pg_namespace n on n.oid = c.collnamespace where c.oid = a.attcollation) end as collation,
            a.attnotnull as "notNull", pg_get_expr(d.adbin, d.adrelid) as default,
            a.attidentity as identity, a.attgenerated as generated, t.oid < ${FIRST_USER_OID} as builtin
       from pg_attribute a join pg_type t on t.oid = a.atttypid
       left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where a.attrelid = ${literal(relation)}::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum`,
  );
  for (const column of columns) refuseColumn(column);
  const constraints = await sql.query<{ name: string; type: string; definition: string; columns: string[] | null }>(
    `select conname as name, contype as type, pg_get_constraintdef(oid) as definition,
            (select array_agg(a.attname::text order by k.ord) from unnest(conkey) with ordinality k(num, ord)
               join pg_attribute a on a.attrelid = conrelid and a.attnum = k.num) as columns
       from pg_constraint where conrelid = ${literal(relation)}::regclass order by conname`,
  );
  for (const { type, name } of constraints) {
    if (type === 'f') throw unsupported(`foreign key ${name}`, 'it could not be checked across nodes');
    if (type === 'x') throw unsupported(`exclusion constraint ${name}`, 'it could not be checked across nodes');
    if (type === 't') throw unsupported(`constraint trigger ${name}`, 'it would exist on one node only');
  }
  const indexes = await sql.query<{ unique: boolean; definition: string; columns: string[] }>(
    `select i.indisunique as unique, ${indexTail('i', 'x', 't')} as definition,
            array(select a.attname::text from unnest(i.indkey[0:i.indnkeyatts-1]) k(num)
                    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.num) as columns
       from pg_index i join pg_class x on x.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
      where i.indrelid = ${literal(relation)}::regclass and not i.indisprimary order by i.indexrelid`,
  );
  return {
    columns: columns.map((c) => ({
      name: c.name,
      type: c.collation === null ? c.type : `${c.type} COLLATE ${c.collation}`,
      notNull: c.notNull,
      default: c.default,
    })),
    primaryKey: constraints.find((c) => c.type === 'p')?.columns ?? [],
    checks: constraints.filter((c) => c.type === 'c').map(({ name, definition }) => ({ name, definition })),
    indexes: indexes.map(({ unique, definition, columns: on }) => ({ unique, definition, columns: on })),
  };
}

function refuseColumn(column: ColumnRow): void {
  if (column.identity !== '')
    throw unsupported(`identity column ${column.name}`, 'each node would count for itself; use uuid keys (uuidv7())');
  if (column.generated !== '')
    throw unsupported(`generated column ${column.name}`, 'a foreign table could not compute it');
  if (column.default?.includes('nextval(')) {
    throw unsupported(
      `sequence default of column ${column.name}`,
      'each node would count for itself; use uuid keys (uuidv7())',
    );
  }
  if (!column.builtin) {
    throw unsupported(`type ${column.type} of column ${column.name}`, 'only built-in types are the same on every node');
  }
}

/**
 * Refuses functions, operators, collations and the like that defaults, checks and indexes use and that are
 * not PostgreSQL's own.
 */
async function refuseOwnObjects(sql: Sql, relation: string): Promise<void> {
  const [found] = await sql.query<{ what: string }>(
    `with own as (select ${literal(relation)}::regclass::oid as oid),
          parts as (select 'pg_attrdef'::regclass as class, d.oid from pg_attrdef d join own on d.adrelid = own.oid
          union all select 'pg_constraint'::regclass, c.oid from pg_constraint c join own on c.conrelid = own.oid
          union all select 'pg_class'::regclass, i.indexrelid from pg_index i join own on i.indrelid = own.oid
          union all select 'pg_class'::regclass, own.oid from own)
     select pg_describe_object(d.refclassid, d.refobjid, 0) as what
       from pg_depend d join parts on d.classid = parts.class and d.objid = parts.oid
      where d.refobjid >= ${FIRST_USER_OID} and d.refclassid in ('pg_proc'::regclass, 'pg_operator'::regclass,
            'pg_opclass'::regclass, 'pg_collation'::regclass, 'pg_type'::regclass, 'pg_ts_config'::regclass, 'pg_am'::regclass)
      limit 1`,
  );
  if (found) throw unsupported(found.what, 'only what is built in is the same on every node');
}

/** No table and no node has it. */
const NOBODY = 0;

/**
 * Makes, in the transaction that is rolled back, a partition that is led here and one that is led elsewhere.
 */
async function makeOnce(sql: Sql, inspected: InspectedTable, traits: readonly string[]): Promise<void> {
  const here = 1;
  const partitions = [here, NOBODY].map((leader, pid) => {
    return { tid: NOBODY, pid, epoch: 1, leader, replicas: [{ node: leader, state: 'ready' as const }] };
  });
  const table: TableRecord = {
    tid: NOBODY,
    ...inspected,
    state: 'creating',
    partitionCount: 2,
    replicaCount: 1,
    partitions,
  };
  await runAll(sql, replicaSql(table, 0));
  requireSame(traits, await readTraits(sql, qualified(SCHEMAS.data, partitionTable(NOBODY, 0))));
  await runAll(sql, [
    `CREATE SERVER ${ident(foreignServerName(NOBODY))} FOREIGN DATA WRAPPER postgres_fdw`,
    ...parentSql(here, table),
  ]);
}

async function runAll(sql: Sql, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await sql.query(statement);
}

/**
 * The distribution key: the one asked for, or the first column of the primary key. Every unique key has to
 * contain it.
 */
export function chooseKey(definition: TableDefinition, table: string, wanted: string | undefined): string {
  const [first] = definition.primaryKey;
  if (first === undefined) throw tideError('NO_PRIMARY_KEY', { table });
  const key = wanted ?? first;
  if (!definition.columns.some((c) => c.name === key)) throw tideError('KEY_COLUMN_UNKNOWN', { table, column: key });
  if (!definition.primaryKey.includes(key)) {
    throw tideError('KEY_NOT_IN_PRIMARY_KEY', { table, column: key, primaryKey: definition.primaryKey.join(', ') });
  }
  const other = definition.indexes.find((i) => i.unique && !i.columns?.includes(key));
  if (other) throw tideError('UNIQUE_WITHOUT_KEY', { table, column: key, index: other.definition });
  return key;
}

async function checkHashable(sql: Sql, relation: string, key: string, definition: TableDefinition): Promise<void> {
  const type = definition.columns.find((c) => c.name === key)?.type ?? '';
  await sql.query('SAVEPOINT hashable');
  try {
    await sql.query(`CREATE TEMP TABLE hashable (LIKE ${relation}) PARTITION BY HASH (${ident(key)})`);
  } catch (error) {
    throw tideError('KEY_NOT_HASHABLE', { column: key, type, why: messageOf(error) });
  } finally {
    await sql.query('ROLLBACK TO SAVEPOINT hashable');
  }
}
