/** What is shown of somebody's statement, characters. */
const SHOWN_MAX = 160;

/**
 * The tokens that PostgreSQL's scanner tells apart (its manual, 4.1). One that has no end, because the server
 * keeps only the beginning of a long statement, goes to the end. Without `E` a backslash is a character as
 * any other, as `standard_conforming_strings` has it by default.
 */
const LITERAL =
  /[eE]'(?:[^'\\]|''|\\[\s\S])*(?:'|\\?$)|(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|$)|\$((?:[\p{L}_][\p{L}\p{N}_]*)?)\$[\s\S]*?(?:\$\1\$|$)/uy;
const NAME = /"(?:[^"]|"")*(?:"|$)|[\p{L}_][\p{L}\p{N}_$]*|\$\d+/uy;
const NUMBER = /\.?\d[\p{L}\p{N}_.]*(?:(?<=[eE])[+-]\d+)?/uy;
const LINE_COMMENT = /--[^\n]*/y;

/**
 * A statement as others may see it, in one short line: without its literals, unless these may be `shown`
 * (setting `show_query_literals`).
 */
export function shownSql(sql: string, literals: 'hidden' | 'shown'): string {
  const line = (literals === 'shown' ? sql : redactSql(sql)).replace(/\s+/g, ' ').trim();
  return line.length <= SHOWN_MAX ? line : `${line.slice(0, SHOWN_MAX - 1)}…`;
}

/** Its literals are `?`, its comments are gone. Names stay: they say what is locked. */
function redactSql(sql: string): string {
  let shown = '';
  for (let at = 0; at < sql.length; ) {
    const comment = commentAt(sql, at);
    const literal = comment === '' ? match(LITERAL, sql, at) : '';
    const name = literal === '' ? match(NAME, sql, at) : '';
    const number = name === '' ? match(NUMBER, sql, at) : '';
    if (comment !== '') shown += ' ';
    else if (literal !== '') shown += '?';
    else if (name !== '') shown += name;
    else shown += number === '' ? sql[at] : '?';
    at += (comment || literal || name || number).length || 1;
  }
  return shown;
}

function match(token: RegExp, sql: string, at: number): string {
  token.lastIndex = at;
  return token.exec(sql)?.[0] ?? '';
}

/** The one that begins at `at`; comments lie in each other. */
function commentAt(sql: string, at: number): string {
  if (!sql.startsWith('/*', at)) return match(LINE_COMMENT, sql, at);
  let depth = 0;
  for (let end = at; end < sql.length; ) {
    const opens = sql.startsWith('/*', end);
    const closes = !opens && sql.startsWith('*/', end);
    depth += opens ? 1 : closes ? -1 : 0;
    end += opens || closes ? 2 : 1;
    if (depth === 0) return sql.slice(at, end);
  }
  return sql.slice(at);
}
