/**
 * Where a table's name ends in the text of a statement. The parser says where it begins; its spelling in the
 * text need not be that of its parts: `"a" . /* of b *\/ B`.
 */

const BARE = /[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y;
const QUOTED = /"((?:[^"]|"")*)"/y;
const BLANKS = /(?:[ \t\n\r\f\v]|--[^\n\r]*)+/y;

/**
 * The end of the name with these parts that begins at `start`; null where the text says something else, or
 * has behind it what belongs to the name (`acct *`).
 */
export function endOfName(text: string, start: number, parts: readonly string[]): number | null {
  let end = start;
  for (const [i, part] of parts.entries()) {
    if (i > 0) {
      const dot = pastBlanks(text, end);
      if (text[dot] !== '.') return null;
      end = pastBlanks(text, dot + 1);
    }
    const found = identifierAt(text, end);
    if (found === null || found.name !== part) return null;
    end = found.end;
  }
  // `U&"…"` begins like a name that is `u`.
  return ['.', '*', '&'].includes(text[pastBlanks(text, end)] ?? '') ? null : end;
}

function identifierAt(text: string, at: number): { name: string; end: number } | null {
  const quoted = matchAt(QUOTED, text, at);
  if (quoted !== null) return { name: quoted.slice(1, -1).replaceAll('""', '"'), end: at + quoted.length };
  const bare = matchAt(BARE, text, at);
  // PostgreSQL changes the case of ASCII letters only, where the encoding is UTF-8.
  return bare === null ? null : { name: bare.replaceAll(/[A-Z]+/g, (l) => l.toLowerCase()), end: at + bare.length };
}

function matchAt(pattern: RegExp, text: string, at: number): string | null {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? null;
}

/** Blanks and comments; comments of the other kind can be inside of each other. */
function pastBlanks(text: string, at: number): number {
  let end = at;
  for (;;) {
    const next = end + (matchAt(BLANKS, text, end)?.length ?? 0);
    end = text.startsWith('/*', next) ? pastComment(text, next) : next;
    if (end === next) return end;
  }
}

function pastComment(text: string, at: number): number {
  let depth = 0;
  let end = at;
  do {
    const opens = text.startsWith('/*', end);
    const closes = !opens && text.startsWith('*/', end);
    if (opens) depth++;
    if (closes) depth--;
    end += opens || closes ? 2 : 1;
  } while (depth > 0 && end < text.length);
  return end;
}
