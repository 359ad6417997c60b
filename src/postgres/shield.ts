import { TIDE_DATABASE } from './config.ts';

/**
 * What operators set for their clients (`ALTER SYSTEM`, `ALTER DATABASE`, `ALTER ROLE … SET`) reaches every
 * session of a server, pgtide's own included: a table copy under a `statement_timeout` never ends, an apply
 * worker under a `lock_timeout` starts over and over. So every session of pgtide says what it wants. Only
 * settings that any role may set: sessions of other nodes need not be superusers.
 */

/** What ends a statement, a transaction or a session by the clock. */
const NO_LIMITS = {
  statement_timeout: '0',
  lock_timeout: '0',
  transaction_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
};

/** How a transaction begins that does not say so itself. */
const ORDINARY_TRANSACTIONS = {
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  default_transaction_deferrable: 'off',
};

/** How values are written and read as text. */
const ONE_NOTATION = {
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  extra_float_digits: '1',
  bytea_output: 'hex',
  standard_conforming_strings: 'on',
};

/** Whoever owns the database may set it for everybody (`ALTER DATABASE tide SET role = …`). */
const NO_OTHER = { role: 'none' };

/** Sessions of the manager and the node process. */
const OWN = {
  ...NO_LIMITS,
  ...ORDINARY_TRANSACTIONS,
  ...ONE_NOTATION,
  ...NO_OTHER,
  search_path: 'pg_catalog',
  jit: 'off',
};

/**
 * What acts for a client on another node, through postgres_fdw. The client's own node ends its statement, and
 * with it this one. But for `lock_timeout`: how long a row of this node is waited for is known here only.
 * Isolation is what postgres_fdw asks for; whether it may write is checked where it is.
 */
const FOR_CLIENTS: Readonly<Record<string, string>> = {
  statement_timeout: '0',
  transaction_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  idle_session_timeout: '0',
  default_transaction_read_only: 'off',
};

/** For `options` of a connection (libpq, PostgreSQL manual 34.1.2): a blank inside a value is escaped. */
function optionsOf(settings: Readonly<Record<string, string>>): string {
  const escaped = (value: string) => value.replace(/[\\ ]/g, '\\$&');
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${escaped(value)}`)
    .join(' ');
}

/** For a session of the manager or of the node process; `more`, or otherwise: what it needs beside that. */
export function ownOptions(more: Readonly<Record<string, string>> = {}): string {
  return optionsOf({ ...OWN, ...more });
}

/**
 * For the sending side of a stream, where the rows of a new replica are read. PostgreSQL 18.4 hands them on
 * (tried).
 */
export const SENDER_OPTIONS = optionsOf(NO_LIMITS);

/** For the sessions that come through a foreign server. */
export const FOREIGN_OPTIONS = optionsOf(FOR_CLIENTS);

/**
 * For the receiving side: apply workers and table copies run as the owner of their subscription, and take
 * what is set for that role in this database before all that is set for either of them, or for the server.
 * Those that run already do not. `temp_file_limit` would end one that spools a large transaction.
 */
export function shieldRoleSql(role: string): string {
  const settings = { ...NO_LIMITS, ...ORDINARY_TRANSACTIONS, ...NO_OTHER, temp_file_limit: '-1' };
  const each = Object.entries(settings).map(
    ([name, value]) => `ALTER ROLE ${role} IN DATABASE ${TIDE_DATABASE} SET ${name} = '${value}'`,
  );
  // Two at once would change one row of the catalog.
  return ['SELECT pg_advisory_xact_lock(7461646503)', ...each].join(';\n');
}
