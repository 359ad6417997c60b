import { questionOf } from '../wire/extended.ts';

/** What a session's server says of the session. */
export interface OwnSettings {
  /** Where names without a schema are looked for, in order. */
  readonly schemas: readonly string[];
  /** The values in force of what a statement could notice, as one text. */
  readonly values: string;
}

/**
 * What the meaning of statements, their bounds and the form of their answers depend on. Others (memory,
 * costs) may differ from server to server.
 */
const NAMES = [
  ...['DateStyle', 'IntervalStyle', 'TimeZone', 'timezone_abbreviations', 'client_encoding', 'extra_float_digits'],
  ...['bytea_output', 'standard_conforming_strings', 'backslash_quote', 'array_nulls', 'transform_null_equals'],
  ...['quote_all_identifiers', 'xmlbinary', 'xmloption', 'default_text_search_config', 'lc_messages', 'lc_monetary'],
  ...['lc_numeric', 'lc_time', 'client_min_messages', 'statement_timeout', 'lock_timeout', 'transaction_timeout'],
  ...['default_transaction_isolation', 'default_transaction_read_only', 'default_transaction_deferrable'],
  ...['synchronous_commit', 'session_replication_role', 'row_security', 'gin_fuzzy_search_limit'],
  ...['idle_session_timeout'],
];

const VALUES = `(select pg_catalog.json_object_agg(name, pg_catalog.current_setting(name))
  from pg_catalog.unnest('{${NAMES.join()}}'::pg_catalog.text[]) name)`;

/** For a server that statements of others are executed at. */
export const VALUES_QUESTION = `select ${VALUES}::pg_catalog.text`;

const OWN_QUESTION = `select pg_catalog.json_build_object('user', current_user, 'sessionUser', session_user,
  'schemas', pg_catalog.current_schemas(true), 'values', ${VALUES}::pg_catalog.text)::pg_catalog.text`;

/** Messages that ask a session for its settings, whatever it has prepared. */
export const ASK_OWN = questionOf(OWN_QUESTION, 'pgtide_settings');

/**
 * Reads the answer. Null: its statements are not executed elsewhere. Somebody is another role than he
 * logged in as; a name of PostgreSQL's own might mean another thing; keys would be read otherwise; or a
 * session whose home has nothing to do would be ended for that.
 */
export function readOwnSettings(answer: string): OwnSettings | null {
  try {
    return ordinary(JSON.parse(answer));
  } catch {
    // In another encoding it need not be JSON.
    return null;
  }
}

interface Answer {
  readonly user: string;
  readonly sessionUser: string;
  readonly schemas: readonly string[];
  readonly values: string;
}

function ordinary({ user, sessionUser, schemas, values }: Answer): OwnSettings | null {
  const value = JSON.parse(values) as Record<string, string>;
  const isOrdinary =
    user === sessionUser &&
    schemas[0] === 'pg_catalog' &&
    value.client_encoding === 'UTF8' &&
    value.standard_conforming_strings === 'on' &&
    value.idle_session_timeout === '0';
  return isOrdinary ? { schemas, values } : null;
}
