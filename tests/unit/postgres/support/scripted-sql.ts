import { parse } from 'libpg-query';
import pg from 'pg';
import type { Sql } from '../../../../src/postgres/sql/sql.ts';

/** Rows, or what is thrown. */
type Answer = readonly object[] | Error;

/**
 * A session without a server. PostgreSQL's own parser reads every statement, and refuses what a server would.
 * `answers`: by words that are in a statement; the first that fits counts, and others have no rows.
 */
export class ScriptedSql implements Sql {
  /** What was asked, each with single blanks. */
  readonly asked: string[] = [];
  /** The same as it was. */
  readonly texts: string[] = [];
  readonly #answers: readonly (readonly [words: string, answer: Answer | (() => Answer)])[];

  constructor(answers: Readonly<Record<string, Answer | (() => Answer)>> = {}) {
    this.#answers = Object.entries(answers);
  }

  async query<R extends pg.QueryResultRow>(text: string): Promise<R[]> {
    const plain = text.replaceAll(/\s+/g, ' ').trim();
    this.asked.push(plain);
    this.texts.push(text);
    await parse(text);
    const [, found = []] = this.#answers.find(([words]) => plain.includes(words)) ?? [];
    const answer = typeof found === 'function' ? found() : found;
    if (answer instanceof Error) throw answer;
    return answer as unknown as R[];
  }
}

/** How PostgreSQL says no. */
export function sqlFailure(code: string, message = 'no'): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError(message, 0, 'error'), { code, severity: 'ERROR' });
}
