import pg from 'pg';
import { TIDE_DATABASE, TIDE_MANAGER } from '../postgres/config.ts';
import { ownOptions } from '../postgres/shield.ts';

const ANSWER_MS = 2_000;

/** Sessions of clients that are inside a statement or a transaction, those that came from other nodes included. */
export async function busySessions(postgres: { host: string; port: number }): Promise<number> {
  const client = new pg.Client({
    ...postgres,
    user: TIDE_MANAGER,
    database: TIDE_DATABASE,
    application_name: 'pgtide drain',
    connectionTimeoutMillis: ANSWER_MS,
    query_timeout: ANSWER_MS,
    options: ownOptions(),
  });
  client.on('error', () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ busy: number }>(
      `select count(*)::int as busy from pg_stat_activity
        where backend_type = 'client backend' and state <> 'idle' and application_name not like 'pgtide %'`,
    );
    return rows[0]?.busy ?? 0;
  } finally {
    await client.end().catch(() => {});
  }
}
