/**
 * A name, what is quoted, or a comment, up to the end where that is missing; a semicolon; or anything else. A
 * dollar-quoted string ends with its own tag.
 */
const PART =
  /[a-z_][\w$]*|'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|\$(?<tag>[a-z_]\w*|)\$.*?(?:\$\k<tag>\$|$)|--[^\n]*|\/\*.*?(?:\*\/|$)|(?<end>;)|./gis;

/**
 * The statements of a text, each with its semicolon, and what is left behind the last one: they are sent one
 * by one, as psql does, so that each is a transaction of its own.
 */
export function splitStatements(text: string): { readonly whole: readonly string[]; readonly rest: string } {
  const whole: string[] = [];
  let from = 0;
  for (const { groups, index } of text.matchAll(PART)) {
    if (groups?.end === undefined) continue;
    const statement = text.slice(from, index + 1).trim();
    if (statement !== ';') whole.push(statement);
    from = index + 1;
  }
  return { whole, rest: text.slice(from).trimStart() };
}
