import type pg from 'pg';
import { SCHEMAS } from '../../catalog/names.ts';
import { messageOf, tideError } from '../../core/errors.ts';
import type { LocalData } from '../../core/local-data.ts';
import { TIDE_DATABASE } from '../config.ts';
import { type Address, inSession, type SessionOptions } from '../connect.ts';
import { isLockFailure, qualified, sqlstateOf } from './client.ts';

/** All of a server, whatever is on it: what has not been looked at by then is named without its rows. */
const LOOK_MS = 8_000;
const CONNECT_MS = 3_000;
const STATEMENT_MS = 3_000;
const LOCK_MS = 300;
/** Counted exactly up to here; the planner's estimate is good enough for more. */
const COUNT_MAX = 10_000;

interface Candidate {
  oid: number;
  schema: string;
  name: string;
  kind: 'r' | 'm' | 'S';
  /** What pg_dump asks of an extension's configuration table: `WHERE NOT standard`. */
  condition: string;
  estimate: number;
}

/**
 * What a server holds that is on no other: rows of ordinary tables and materialized views (the leaves of
 * partitioned ones, unlogged ones too), large objects, and sequences that somebody draws from and no column
 * owns; in every database but templates that nobody can enter. Not: what pgtide keeps there, temporary
 * tables, and what an extension brings along, unless pg_dump would take it for data of its user. Ordered by
 * size. Throws NODE_UNREACHABLE.
 */
export async function readLocalData(node: number, address: Address): Promise<LocalData[]> {
  const untilMs = performance.now() + LOOK_MS;
  const databases = await within(node, address, TIDE_DATABASE, (client) =>
    client.query<{ name: string }>('select datname as name from pg_database where datallowconn order by 1'),
  );
  const found: LocalData[] = [];
  for (const { name } of databases.rows)
    found.push(...(await within(node, address, name, (client) => lookInto(client, name, untilMs))));
  return found.sort((a, b) => (b.bytes ?? Infinity) - (a.bytes ?? Infinity) || a.name.localeCompare(b.name));
}

/** As the manager, whom every row is visible to; no trigger of theirs runs at the login. It only reads. */
const LOOK: SessionOptions = {
  name: 'pgtide local data',
  connectMs: CONNECT_MS,
  answerMs: STATEMENT_MS + 1_000,
  settings: {
    event_triggers: 'off',
    default_transaction_read_only: 'on',
    statement_timeout: String(STATEMENT_MS),
    lock_timeout: String(LOCK_MS),
  },
};

async function within<T>(
  node: number,
  address: Address,
  database: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  try {
    return await inSession(address, { ...LOOK, database }, work);
  } catch (error) {
    // Dropped since it was listed: it leaves with nobody.
    if (sqlstateOf(error) === '3D000' && database !== TIDE_DATABASE) return [] as T;
    throw tideError('NODE_UNREACHABLE', { node, why: `database ${database}: ${messageOf(error)}` }, error);
  }
}

const OWN = Object.values(SCHEMAS);

async function lookInto(client: pg.Client, database: string, untilMs: number): Promise<LocalData[]> {
  const found: LocalData[] = [];
  const candidates = await client.query<Candidate>(CANDIDATES, [database === TIDE_DATABASE ? OWN : []]);
  for (const candidate of candidates.rows) {
    const late = performance.now() > untilMs;
    const looked = late ? { rows: null, estimated: false, bytes: null } : await lookAt(client, candidate);
    const { schema, name, kind } = candidate;
    if (looked) found.push({ database, schema, name, kind: KINDS[kind], ...looked });
  }
  const [objects] = (await client.query<{ rows: number; bytes: number }>(LARGE_OBJECTS)).rows;
  if (objects && objects.rows > 0)
    found.push({ database, schema: '', name: '', kind: 'large objects', estimated: false, ...objects });
  return found;
}

const KINDS = { r: 'table', m: 'materialized view', S: 'sequence' } as const;

type Looked = Pick<LocalData, 'rows' | 'estimated' | 'bytes'>;

/** Null where there is nothing in it. What somebody has locked may hold anything. */
async function lookAt(client: pg.Client, candidate: Candidate): Promise<Looked | null> {
  const { oid, schema, name, kind, condition, estimate } = candidate;
  try {
    const [size] = (await client.query<{ bytes: string }>('select pg_total_relation_size($1) as bytes', [oid])).rows;
    const bytes = Number(size?.bytes ?? 0);
    if (kind === 'S') return { rows: null, estimated: false, bytes };
    const rows = `select from only ${qualified(schema, name)} ${condition} limit ${COUNT_MAX + 1}`;
    const [counted] = (await client.query<{ rows: number }>(`select count(*)::int as rows from (${rows}) found`)).rows;
    const many = (counted?.rows ?? 0) > COUNT_MAX;
    if (counted?.rows === 0) return null;
    return { rows: many ? Math.max(estimate, COUNT_MAX + 1) : (counted?.rows ?? null), estimated: many, bytes };
  } catch (error) {
    // Dropped since it was listed.
    if (sqlstateOf(error) === '42P01') return null;
    if (!isLockFailure(error)) throw error;
    return { rows: null, estimated: false, bytes: null };
  }
}

const CANDIDATES = `
  select c.oid, n.nspname as schema, c.relname as name, c.relkind as kind, coalesce(e.condition, '') as condition,
         greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)::float8 as estimate
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    left join lateral (
      select x.oid, (select x.extcondition[i] from generate_subscripts(x.extconfig, 1) i where x.extconfig[i] = c.oid) as condition
        from pg_depend d join pg_extension x on x.oid = d.refobjid
       where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
         and d.refclassid = 'pg_extension'::regclass) e on true
   where c.relkind in ('r', 'm', 'S') and c.relpersistence <> 't'
     and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname <> all ($1::text[])
     and (e.oid is null or (e.condition is not null and c.relkind = 'r'))
     and (c.relkind <> 'S' or (pg_sequence_last_value(c.oid) is not null and not exists (
       select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i'))))
   order by c.oid`;

const LARGE_OBJECTS = `
  select count(*)::int as rows, pg_total_relation_size('pg_largeobject')::float8 as bytes from pg_largeobject_metadata`;
