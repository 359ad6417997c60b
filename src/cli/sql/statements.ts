/**
 * The statements of a text, each with its semicolon, and what is left behind the last one: they are sent one
 * by one, as psql does, so that each is a transaction of its own. A semicolon ends none within quotes,
 * comments, and the body of a function in standard SQL (BEGIN ATOMIC … END).
 */
export function splitStatements(text: string): { readonly whole: readonly string[]; readonly rest: string } {
  const whole: string[] = [];
  let from = 0;
  let body = new Body();
  for (let at = 0; at < text.length; ) {
    const end = endOfPart(text, at);
    if (text[at] === ';' && !body.isOpen) {
      const statement = text.slice(from, end).trim();
      if (statement !== ';') whole.push(statement);
      from = end;
      body = new Body();
    } else if (WORD_START.test(text[at] as string)) body.take(text.slice(at, end).toLowerCase());
    at = end;
  }
  return { whole, rest: text.slice(from).trimStart() };
}

const WORD_START = /[a-z_\u0080-\uffff]/i;
const WORD = /[\w$\u0080-\uffff]*/y;
const DOLLAR_TAG = /\$(?:[a-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/iy;

/** Where the word, the quoted part, the comment or the sign ends that begins there. */
function endOfPart(text: string, at: number): number {
  const [first, second] = [text[at] as string, text[at + 1]];
  if (first === "'" || first === '"') return endOfQuoted(text, at + 1, first, false);
  if ((first === 'e' || first === 'E') && second === "'") return endOfQuoted(text, at + 2, second, true);
  if (first === '-' && second === '-') return indexOrEnd(text, '\n', at);
  if (first === '/' && second === '*') return endOfComment(text, at + 2);
  if (first === '$') {
    DOLLAR_TAG.lastIndex = at;
    const [tag] = DOLLAR_TAG.exec(text) ?? [];
    return tag === undefined ? at + 1 : Math.min(indexOrEnd(text, tag, at + tag.length) + tag.length, text.length);
  }
  if (!WORD_START.test(first)) return at + 1;
  WORD.lastIndex = at;
  WORD.test(text);
  return WORD.lastIndex;
}

/** A doubled quote goes on; after a backslash anything does, where that is one. */
function endOfQuoted(text: string, from: number, quote: string, hasBackslashes: boolean): number {
  for (let at = from; at < text.length; at++) {
    if (hasBackslashes && text[at] === '\\') at += 1;
    else if (text[at] === quote && text[at + 1] === quote) at += 1;
    else if (text[at] === quote) return at + 1;
  }
  return text.length;
}

/** They may be within each other. */
function endOfComment(text: string, from: number): number {
  let depth = 1;
  for (let at = from; at < text.length; at++) {
    const two = text.slice(at, at + 2);
    if (two === '/*' || two === '*/') {
      depth += two === '/*' ? 1 : -1;
      at += 1;
      if (depth === 0) return at + 1;
    }
  }
  return text.length;
}

function indexOrEnd(text: string, what: string, from: number): number {
  const at = text.indexOf(what, from);
  return at === -1 ? text.length : at;
}

const CREATES = /^create (or replace )?(function|procedure) /;

/** Follows the words of one statement, as far as they say whether it is inside BEGIN ATOMIC … END. */
class Body {
  #begun = '';
  #last = '';
  #depth = 0;

  get isOpen(): boolean {
    return this.#depth > 0;
  }

  take(word: string): void {
    if (this.#begun.length < 40) this.#begun += `${word} `;
    if (word === 'atomic' && this.#last === 'begin' && CREATES.test(this.#begun)) this.#depth = 1;
    else if (this.isOpen && word === 'case') this.#depth += 1;
    else if (this.isOpen && word === 'end') this.#depth -= 1;
    this.#last = word;
  }
}
