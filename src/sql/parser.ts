import { hasSqlDetails, loadModule, parseSync } from 'libpg-query';
import { messageOf } from '../core/errors.ts';

/**
 * PostgreSQL's own parser, compiled to WebAssembly. Its stack is small: a statement that is nested too deep
 * ends it in the middle of its work, and it never recovers from a few of those.
 */

/** As the parser gives it: the type's name, and fields; fields that have their default value are left out. */
export type Node = Readonly<Record<string, Fields>>;
export type Fields = Readonly<Record<string, unknown>>;

/** To be awaited once, before the first statement is parsed. */
export function loadParser(): Promise<void> {
  return loadModule();
}

/**
 * So many cannot be nested so deep that the parser's stack overflows, which takes 1,600 levels at the least
 * (tried, 18.1.5): all but commas, dots and quotes counts, as a level needs a word or a sign of its own.
 */
const WORDS_MAX = 1_000;
/** Something it said was not a verdict on a statement: nothing that it says afterwards is believed. */
let isBroken = false;

/** The one statement of a text. Never throws. */
export function parseOne(text: string): Node | { readonly because: string } {
  const read = wordsIn(text) > WORDS_MAX ? TOO_LONG : parseText(text);
  if ('because' in read) return read;
  const [only] = read;
  return only !== undefined && read.length === 1 ? only : { because: 'it is not one statement' };
}

/**
 * The statements of a text, which may be long where it is a list of short parts: columns of a table. Never
 * throws.
 */
export function parseAll(text: string): readonly Node[] | { readonly because: string } {
  return partsOf(text).some((part) => wordsIn(part) > WORDS_MAX) ? TOO_LONG : parseText(text);
}

const TOO_LONG = { because: `it has a part of more than ${WORDS_MAX} words and signs` };

function parseText(text: string): readonly Node[] | { readonly because: string } {
  if (isBroken) return { because: 'the parser has failed before; it works again in a new process' };
  if (isGarbled(text)) return { because: 'it has characters that are none' };
  if (text.trim() === '') return { because: 'it is empty' };
  try {
    const { stmts = [] } = parseSync(text) as unknown as { stmts?: { stmt: Node }[] };
    return stmts.map(({ stmt }) => stmt);
  } catch (error) {
    isBroken = !hasSqlDetails(error);
    return { because: messageOf(error) };
  }
}

/**
 * What stands between commas and semicolons, but for those that are inside of two pairs of parentheses. A
 * text with quotes of another kind is one part.
 */
function partsOf(text: string): string[] {
  if (/[$\\]/.test(text)) return [text];
  const parts: string[] = [];
  let depth = 0;
  let from = 0;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    if (token === '(' || token === '[') depth++;
    else if (token === ')' || token === ']') depth = Math.max(0, depth - 1);
    else if ((token === ',' || token === ';') && depth <= 1) {
      parts.push(text.slice(from, index));
      from = index;
    }
  }
  return [...parts, text.slice(from)];
}

/** Of what is quoted or a comment nothing is looked at. */
const TOKEN = /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*.*?\*\/|[()[\],;]/gs;

/** The parser reads up to a zero, and what could not be decoded has been lost. */
function isGarbled(text: string): boolean {
  return text.includes('\0') || text.includes('\ufffd') || /\p{Surrogate}/u.test(text);
}

/** Words, and signs that are no part of one. Quickly, as it is done for every text. */
function wordsIn(text: string): number {
  let count = 0;
  let isInWord = false;
  for (let at = 0; at < text.length; at++) {
    const kind = KINDS[text.charCodeAt(at)] ?? WORD;
    if (kind === SIGN || (kind === WORD && !isInWord)) count++;
    isInWord = kind === WORD;
  }
  return count;
}

const WORD = 1;
const SIGN = 2;
/** Of ASCII. Whatever is beyond is part of a word. */
const KINDS: readonly number[] = Array.from({ length: 0x80 }, (_, code) => {
  const character = String.fromCharCode(code);
  if (/[\s,."']/.test(character)) return 0;
  return /\w/.test(character) ? WORD : SIGN;
});
