/**
 * What a session's own server says that has to be known before a statement of the session is executed
 * elsewhere: the same for all sessions of a role with the same settings, for as long as nobody changes
 * them.
 */
export interface HomeFacts {
  /** Settings in force that are not PostgreSQL's defaults, of those that a statement could notice. */
  readonly settings: string;
  /** Partitioned tables, by `schema.name` in JSON. */
  readonly tables: ReadonlyMap<string, HomeTable>;
}

export interface HomeTable {
  readonly oid: number;
  /** Its name means this table, without the schema. */
  readonly isVisible: boolean;
  /** All of its columns have types and defaults that are the same everywhere, whoever asks. */
  readonly isPlain: boolean;
}

export const tableKey = (schema: string, name: string) => JSON.stringify([schema, name]);

/**
 * PostgreSQL's FirstNormalObjectId: what has a higher oid was made by somebody, and has another one
 * elsewhere.
 */
export const FIRST_USER_OID = 16_384;

/** Of the server at the other end, too: what is different there would be noticed. */
export const SETTINGS_QUESTION = `
  select coalesce(string_agg(name || '=' || setting, chr(10) order by name), '') from pg_settings
   where context in ('user', 'superuser') and source not in ('default', 'client', 'override', 'session')
     and name not in ('plan_cache_mode', 'application_name', 'search_path') and name not like 'tcp%'`;

/** A constant, or a function that gives the same to everybody or something new each time. */
const PLAIN_DEFAULT = String.raw`'^((''([^'']|'''')*''|-?[0-9.]+|\(''?-?[0-9.]+''?\)|true|false|NULL)(::[a-z "]+)?|(now|gen_random_uuid|uuidv7|clock_timestamp)\(\)|CURRENT_TIMESTAMP)$'`;

export const HOME_QUESTION = `
  select json_build_object('settings', (${SETTINGS_QUESTION}), 'tables', (
    select coalesce(json_agg(json_build_array(n.nspname, c.relname, c.oid::int8, pg_table_is_visible(c.oid), (
        select bool_and(a.atttypid < ${FIRST_USER_OID} and coalesce(a.attgenerated <> '' or pg_get_expr(d.adbin, d.adrelid) ~ ${PLAIN_DEFAULT}, true))
          from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
      )), '[]'::json)
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relkind = 'p' and not c.relrowsecurity and n.nspname not like 'tide%'))::text`;

/** Reads the answer to HOME_QUESTION. */
export function readHomeFacts(answer: string): HomeFacts {
  const { settings, tables } = JSON.parse(answer) as {
    settings: string;
    tables: [schema: string, name: string, oid: number, isVisible: boolean, isPlain: boolean][];
  };
  return {
    settings,
    tables: new Map(
      tables.map(([schema, name, oid, isVisible, isPlain]) => [tableKey(schema, name), { oid, isVisible, isPlain }]),
    ),
  };
}
