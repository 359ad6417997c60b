import { endOfName } from './name-in-text.ts';

/** A statement's text with another table in the place of the one that it names. */
export interface Rewrite {
  on(table: string): string;
  positionInOriginal(position: number, table: string): number;
}

/**
 * The name begins at `byte` of the text in UTF-8, as the parser counts. `alias`: what the table is to be
 * called in the rest of the statement; null where the statement gives it one. Null where the text is not as
 * expected.
 */
export function rewriting(text: string, byte: number, parts: readonly string[], alias: string | null): Rewrite | null {
  const start = Buffer.byteLength(text) === text.length ? byte : Buffer.from(text).toString('utf8', 0, byte).length;
  const end = endOfName(text, start, parts);
  if (end === null) return null;
  // Words may stand against a quote, and not against each other: `FROM"acct"WHERE`.
  const before = text[start] === '"' ? ' ' : '';
  const after = text[end - 1] === '"' || text[end] === '"' ? ' ' : '';
  const called = alias === null ? '' : ` AS "${alias.replaceAll('"', '""')}"`;
  const inPlace = (table: string) => `${before}${table}${called}${after}`;
  return {
    on: (table) => text.slice(0, start) + inPlace(table) + text.slice(end),
    positionInOriginal: (position, table) => {
      const ahead = points(text.slice(0, start));
      const more = points(inPlace(table)) - points(text.slice(start, end));
      if (position <= ahead) return position;
      return position <= ahead + points(inPlace(table)) ? ahead + 1 : position - more;
    },
  };
}

/** PostgreSQL counts characters, those beyond 16 bits once. */
function points(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
