/** A word of a statement, as it was written; a string or a name in quotes, as what it means; or a sign. */
export interface Word {
  readonly kind: 'word' | 'name' | 'string' | 'sign';
  readonly text: string;
}

/** Blanks and comments have no name. */
const TOKEN =
  /\s+|--[^\n]*|\/\*(?:[^*]|\*(?!\/))*(?:\*\/|$)|(?<string>'(?:[^']|'')*')|(?<name>"(?:[^"]|"")+")|(?<word>[\p{L}_][\p{L}\p{N}_$]*(?:\.[\p{L}_][\p{L}\p{N}_$]*)*|\d[\w.]*)|(?<sign>.)/gsu;

/**
 * The words of one statement, without the semicolon behind it. Null: there is another one. Statements about
 * the cluster are plain: a string of another kind makes signs of it, which belong to none.
 */
export function wordsOf(text: string): readonly Word[] | null {
  const words: Word[] = [];
  for (const { groups = {} } of text.matchAll(TOKEN)) {
    const { string, name, word, sign } = groups;
    if (string !== undefined) words.push({ kind: 'string', text: string.slice(1, -1).replaceAll("''", "'") });
    else if (name !== undefined) words.push({ kind: 'name', text: name.slice(1, -1).replaceAll('""', '"') });
    else if (word !== undefined) words.push({ kind: 'word', text: word });
    else if (sign !== undefined) words.push({ kind: 'sign', text: sign });
  }
  while (words.at(-1)?.text === ';') words.pop();
  return words.some(isSemicolon) ? null : words;
}

const isSemicolon = ({ kind, text }: Word) => kind === 'sign' && text === ';';

/** Reads words from left to right. */
export class Words {
  readonly #words: readonly Word[];
  #at = 0;

  constructor(words: readonly Word[]) {
    this.#words = words;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#words.length;
  }

  /** What comes next; null at the end. */
  get next(): Word | null {
    return this.#words[this.#at] ?? null;
  }

  /** Takes these words where they come next, all or none; in any case. */
  take(...expected: readonly string[]): boolean {
    const found = expected.every((text, i) => {
      const word = this.#words[this.#at + i];
      return word !== undefined && word.kind !== 'string' && word.kind !== 'name' && word.text.toLowerCase() === text;
    });
    if (found) this.#at += expected.length;
    return found;
  }

  /** The next one, but for a sign; null: there is none. */
  value(): Word | null {
    const word = this.next;
    if (word === null || word.kind === 'sign') return null;
    this.#at += 1;
    return word;
  }

  /** The name of a setting or a table, with its schema: in small letters where it is not in quotes. */
  name(): string | null {
    const parts: string[] = [];
    do {
      const part = this.value();
      if (part === null || part.kind === 'string') return null;
      parts.push(part.kind === 'name' ? part.text : part.text.toLowerCase());
    } while (this.take('.'));
    return parts.join('.');
  }

  /** Values with commas between them, up to the end; null: something else is there. */
  list(): readonly string[] | null {
    const values: string[] = [];
    do {
      const value = this.value();
      if (value === null) return null;
      values.push(value.text);
    } while (this.take(','));
    return this.isAtEnd ? values : null;
  }
}
