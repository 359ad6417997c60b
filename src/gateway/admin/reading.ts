import type { AdminRequest } from '../../api/commands.ts';
import type { RelationName, SqlError } from '../../api/relations.ts';

/**
 * Statements about the cluster, which PostgreSQL does not know: what a gateway makes of them. The session's
 * own server executes another one in the place of each: so transactions, prepared statements and errors are
 * PostgreSQL's own.
 */
export type Reading =
  /** Relations are brought up to date before `text` is executed. */
  | { readonly kind: 'look'; readonly relations: readonly RelationName[]; readonly text: string }
  /** A command is carried out, and what came of it is executed in its place. Not in a transaction. */
  | { readonly kind: 'do'; readonly work: Work; readonly gives: Gives }
  /** How a statement would be executed is said in its place. */
  | { readonly kind: 'route'; readonly statement: string }
  /** It is none, although it begins like one: `text` says why. */
  | { readonly kind: 'wrong'; readonly text: string };

export type Work =
  | { readonly command: AdminRequest }
  /** The setting gets its default again. */
  | { readonly reset: string };

/** What a command answers with: nothing, the operation that was started, or a plan. */
export type Gives = 'nothing' | 'operation' | 'plan';

/** What came of a command. */
export type Outcome =
  | { readonly error: SqlError }
  /** `operation`: null, there was nothing to do. */
  | { readonly operation: number | null; readonly lines: readonly string[] };

/** What gives the outcome where it is executed. */
export function outcomeText(gives: Gives, outcome: Outcome): string {
  if ('error' in outcome) return failure(outcome.error);
  if (gives === 'plan') return lines(outcome.lines);
  if (gives === 'nothing') return 'CALL tide.done()';
  return outcome.operation === null
    ? 'SELECT NULL::bigint AS operation WHERE false'
    : `SELECT ${outcome.operation}::bigint AS operation`;
}

/** Gives these lines, as EXPLAIN does. */
export function lines(texts: readonly string[]): string {
  return `SELECT pg_catalog.unnest(ARRAY[${texts.map(quote).join(', ')}]::pg_catalog.text[]) AS "QUERY PLAN"`;
}

/** `text` has to be executed in place of a statement that is wrong. */
export function wrong(message: string, hint: string): Reading {
  return { kind: 'wrong', text: failure({ sqlstate: '42601', message, detail: 'code: SYNTAX', hint }) };
}

function failure({ sqlstate, message, detail, hint }: SqlError): string {
  return `CALL tide.refuse(${[sqlstate, message, detail, hint].map(quote).join(', ')})`;
}

/** A literal, whatever `standard_conforming_strings` is (PostgreSQL manual, 4.1.2). */
export function quote(text: string): string {
  const doubled = text.replaceAll('\0', '').replaceAll("'", "''");
  return doubled.includes('\\') ? ` E'${doubled.replaceAll('\\', '\\\\')}'` : `'${doubled}'`;
}

export const NOT_QUIET: Outcome = {
  error: {
    sqlstate: '25001',
    message: 'a command to the cluster cannot be a part of a transaction, or sent before all else is answered',
    detail: 'code: NOT_ALONE',
    hint: 'send it by itself: it is done at once, and no ROLLBACK takes it back',
  },
};

/** In the place of a command that is prepared. */
export const NOT_PREPARED = failure({
  sqlstate: '0A000',
  message: 'a command to the cluster cannot be prepared',
  detail: 'code: NOT_PREPARED',
  hint: 'send it as a simple query, without parameters: libpq PQexec, node-postgres query(text), asyncpg execute(text), pgjdbc preferQueryMode=simple',
});

/** In the place of a statement that would not be known as one that reads the cluster. */
export const TOO_MANY = failure({
  sqlstate: '54000',
  message: 'the session has prepared too many statements that read the cluster',
  detail: 'code: TOO_MANY_PREPARED',
  hint: 'close those that are not needed, or reconnect',
});

export const NO_RIGHT: Outcome = {
  error: {
    sqlstate: '42501',
    message: 'only tide changes the cluster, and the session acts as somebody else',
    detail: 'code: NO_RIGHT',
    hint: 'RESET ROLE',
  },
};
