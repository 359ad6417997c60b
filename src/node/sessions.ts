import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { TIDE_DATABASE, TIDE_MANAGER } from '../postgres/config.ts';
import { ownOptions } from '../postgres/shield.ts';

const ANSWER_MS = 2_000;
const POLL_MS = 50;

/** Waits until no client is at work any more, for at most `withinMs`. A server that does not answer has nobody to wait for. */
export async function awaitIdle(postgres: { host: string; port: number }, withinMs: number): Promise<void> {
  const untilMs = performance.now() + withinMs;
  while (performance.now() < untilMs && (await busySessions(postgres).catch(() => 0)) > 0) await sleep(POLL_MS);
}

/** Sessions of clients that are inside a statement or a transaction, those that came from other nodes included. */
async function busySessions(postgres: { host: string; port: number }): Promise<number> {
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
