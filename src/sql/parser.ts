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
  if (isBroken) return { because: 'the parser has failed before' };
  if (isGarbled(text)) return { because: 'it has characters that are none' };
  if (wordsIn(text) > WORDS_MAX) return { because: 'it is very long' };
  if (text.trim() === '') return { because: 'it is empty' };
  try {
    const { stmts = [] } = parseSync(text) as unknown as { stmts?: { stmt: Node }[] };
    const [only] = stmts;
    return only !== undefined && stmts.length === 1 ? only.stmt : { because: 'it is not one statement' };
  } catch (error) {
    isBroken = !hasSqlDetails(error);
    return { because: messageOf(error) };
  }
}

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
