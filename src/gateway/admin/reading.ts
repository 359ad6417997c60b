import type { AdminRequest } from '../../api/commands.ts';
import type { RelationName } from '../../api/relations.ts';

/**
 * Statements about the cluster, which PostgreSQL does not know: what a gateway makes of them. The session's
 * own server executes another one in the place of each, which gives what the node has left there: so
 * transactions, prepared statements and errors are PostgreSQL's own.
 */
export type Reading =
  /** Relations are brought up to date before `text` is executed. */
  | { readonly kind: 'look'; readonly relations: readonly RelationName[]; readonly text: string }
  /** A command is carried out before `text` is, which says what came of it. Not in a transaction. */
  | { readonly kind: 'do'; readonly work: Work; readonly text: string }
  /** How a statement would be executed is said in its place. */
  | { readonly kind: 'route'; readonly statement: string }
  /** It is none, although it begins like one: `text` says why. */
  | { readonly kind: 'wrong'; readonly text: string };

export type Work =
  | { readonly command: AdminRequest }
  /** The setting gets its default again. */
  | { readonly reset: string };

/** Gives nothing but whether it succeeded. */
export const TOLD = 'CALL tide.told()';
/** Gives the operation that was started. */
export const STARTED = 'SELECT operation FROM tide.started()';
/** Gives a plan, line by line. */
export const PLANNED = 'SELECT line AS "QUERY PLAN" FROM tide.planned()';

/** Gives these lines, as EXPLAIN does. */
export function lines(texts: readonly string[]): string {
  return `SELECT unnest(ARRAY[${texts.map(quote).join(', ')}]) AS "QUERY PLAN"`;
}

/** `text` has to be executed in place of a statement that is wrong. */
export function wrong(message: string, hint: string): Reading {
  return { kind: 'wrong', text: `CALL tide.refuse(${quote('42601')}, ${quote(message)}, ${quote(hint)})` };
}

/** A literal, whatever `standard_conforming_strings` is (PostgreSQL manual, 4.1.2). */
export function quote(text: string): string {
  const doubled = text.replaceAll("'", "''");
  return doubled.includes('\\') ? ` E'${doubled.replaceAll('\\', '\\\\')}'` : `'${doubled}'`;
}
