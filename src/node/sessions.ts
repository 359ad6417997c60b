import { setTimeout as sleep } from 'node:timers/promises';
import { inSession, ownServer } from '../postgres/connect.ts';

const ANSWER_MS = 2_000;
const POLL_MS = 50;

/**
 * Waits until no client is at work any more, for at most `withinMs`. A server that does not answer has nobody
 * to wait for.
 */
export async function awaitIdle(server: { port: number }, withinMs: number): Promise<void> {
  const untilMs = performance.now() + withinMs;
  while (performance.now() < untilMs && (await busySessions(server).catch(() => 0)) > 0) await sleep(POLL_MS);
}

/**
 * Sessions of clients that are inside a statement or a transaction, those that came from other nodes
 * included.
 */
async function busySessions(server: { port: number }): Promise<number> {
  const options = { name: 'pgtide drain', connectMs: ANSWER_MS, answerMs: ANSWER_MS } as const;
  return inSession(ownServer(server), options, async (client) => {
    const { rows } = await client.query<{ busy: number }>(
      `select count(*)::int as busy from pg_stat_activity
        where backend_type = 'client backend' and state <> 'idle' and application_name not like 'pgtide %'`,
    );
    return rows[0]?.busy ?? 0;
  });
}
