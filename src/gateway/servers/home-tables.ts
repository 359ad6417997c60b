import type { Socket } from 'node:net';
import { FIRST_USER_OID, SCHEMAS } from '../../catalog/names.ts';
import type { ServerAddress } from '../messages.ts';
import { ask, begin } from './ask.ts';

/**
 * What this node's PostgreSQL says of the distributed tables that it has, and of what could be taken for
 * them.
 */
export interface HomeTables {
  readonly tables: ReadonlyMap<number, HomeTable>;
  /** Schemas of other relations that are called like a distributed table, by that name. */
  readonly others: ReadonlyMap<string, ReadonlySet<string>>;
  /** Names of functions and operators that somebody has made. */
  readonly userNames: ReadonlySet<string>;
}

export interface HomeTable {
  readonly oid: number;
  /** Rows are given the same types and defaults everywhere, whoever asks. */
  readonly isSameEverywhere: boolean;
  /** What the role that clients are may do with it. */
  readonly mayRead: boolean;
  readonly mayWrite: boolean;
}

/** A constant, or a function that gives the same to everybody or something new each time. */
const PLAIN_DEFAULT = String.raw`'^((''([^'']|'''')*''|-?[0-9.]+|\(''?-?[0-9.]+''?\)|true|false|NULL)(::[a-z "]+)?|(now|gen_random_uuid|uuidv7|clock_timestamp)\(\)|CURRENT_TIMESTAMP)$'`;
const OWN_SCHEMAS = `'{${Object.values(SCHEMAS).join()}}'::text[]`;

export const HOME_QUESTION = `
  with own as materialized (
    select d.tid, c.oid, c.relname as name, n.oid as namespace, n.nspname as schema, c.relrowsecurity as has_policies
      from tide.distributed d join pg_class c on c.oid = d.relid join pg_namespace n on n.oid = c.relnamespace)
  select json_build_object('tables', (
    select coalesce(json_agg(json_build_array(own.tid, own.oid::int8, not own.has_policies and (
        select bool_and(a.atttypid < ${FIRST_USER_OID} and coalesce(pg_get_expr(d.adbin, d.adrelid) ~ ${PLAIN_DEFAULT}, true))
          from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attrelid = own.oid and a.attnum > 0 and not a.attisdropped),
        has_schema_privilege(own.namespace, 'usage') and has_table_privilege(own.oid, 'select'),
        has_schema_privilege(own.namespace, 'usage') and has_table_privilege(own.oid, 'select')
          and has_table_privilege(own.oid, 'insert') and has_table_privilege(own.oid, 'update') and has_table_privilege(own.oid, 'delete')
      )), '[]'::json) from own
  ), 'others', (
    select coalesce(json_agg(json_build_array(c.relname, n.nspname)), '[]'::json)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relname in (select name from own) and c.oid not in (select oid from own) and n.nspname <> all (${OWN_SCHEMAS})
  ), 'userNames', (
    select coalesce(json_agg(distinct name), '[]'::json)
      from (select proname, oid, pronamespace from pg_proc union all select oprname, oid, oprnamespace from pg_operator) f(name, oid, namespace)
      join pg_namespace n on n.oid = f.namespace
     where f.oid >= ${FIRST_USER_OID} and n.nspname <> all (${OWN_SCHEMAS})
  ))::text`;

/** Reads the answer to HOME_QUESTION. */
export function readHomeTables(answer: string): HomeTables {
  const read = JSON.parse(answer) as {
    tables: [tid: number, oid: number, isSameEverywhere: boolean, mayRead: boolean, mayWrite: boolean][];
    others: [name: string, schema: string][];
    userNames: string[];
  };
  const others = new Map<string, Set<string>>();
  for (const [name, schema] of read.others) others.set(name, (others.get(name) ?? new Set()).add(schema));
  return {
    tables: new Map(
      read.tables.map(([tid, oid, isSameEverywhere, mayRead, mayWrite]) => {
        return [tid, { oid, isSameEverywhere, mayRead, mayWrite }];
      }),
    ),
    others,
    userNames: new Set(read.userNames),
  };
}

/**
 * What was true so long ago is still believed: rights that were taken from clients, other tables of a name.
 */
const FRESH_MS = 5_000;

/** Asks home for its tables, as the role of clients, as long as somebody wants to know. */
export class HomeTablesWatch {
  readonly #parameters: ReadonlyMap<string, string>;
  readonly #home: () => ServerAddress | null;
  #known: { readonly tables: HomeTables; readonly answer: string; readonly atMs: number } | null = null;
  #socket: Socket | null = null;
  #isAsking = false;

  constructor(role: string, database: string, home: () => ServerAddress | null) {
    const own = {
      application_name: 'pgtide gateway',
      search_path: 'pg_catalog',
      role: 'none',
      statement_timeout: '2s',
    };
    this.#parameters = new Map(Object.entries({ user: role, database, ...own }));
    this.#home = home;
  }

  /** Null while it is asked. The same object as before where nothing has changed. */
  get tables(): HomeTables | null {
    const ageMs = this.#known === null ? Number.POSITIVE_INFINITY : performance.now() - this.#known.atMs;
    if (ageMs > FRESH_MS / 2) this.refresh();
    return ageMs > FRESH_MS ? null : (this.#known?.tables ?? null);
  }

  refresh(): void {
    const home = this.#home();
    if (home === null || this.#isAsking) return;
    this.#isAsking = true;
    void this.#ask(home);
  }

  async #ask(home: ServerAddress): Promise<void> {
    try {
      const atMs = performance.now();
      const socket = this.#socket ?? (await begin(home, this.#parameters)).socket;
      this.#socket = socket;
      const answer = await ask(socket, HOME_QUESTION);
      const tables = this.#known?.answer === answer ? this.#known.tables : readHomeTables(answer);
      this.#known = { tables, answer, atMs };
    } catch {
      // It is asked again when somebody wants to know.
      this.#socket = null;
    } finally {
      this.#isAsking = false;
    }
  }
}
