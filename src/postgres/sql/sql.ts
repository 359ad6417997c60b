import type pg from 'pg';

/** What runs statements: a pooled connection's shorthand or one session. */
export interface Sql {
  query<R extends pg.QueryResultRow = pg.QueryResultRow>(text: string, values?: unknown[]): Promise<R[]>;
}
