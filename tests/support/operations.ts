import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { OperationResult } from '../../src/api/results.ts';
import { TideError } from '../../src/core/errors.ts';
import { TIDE_PEER } from '../../src/postgres/config.ts';
import type { LocalCluster } from './cluster.ts';

const POLL_MS = 200;

/** Asks for an operation as fast as it answers, until it is at `step`. Throws when it ends before. */
export async function untilStep(cluster: LocalCluster, id: number, step: string): Promise<OperationResult> {
  for (;;) {
    const operation = await cluster.admin({ do: 'op-show', id });
    if (operation.status === 'running' && operation.step === step) return operation;
    if (operation.endedAt !== null)
      throw new Error(`operation ${id} was ${operation.status} before anybody saw it at ${step}`);
    const passed = operation.steps.some((s) => s.name === step && s.status === 'done');
    if (passed)
      throw new Error(`operation ${id} had passed ${step} (now ${operation.step}) before anybody saw it there`);
  }
}

/**
 * The operation once it has ended, however. It has to go on by itself, across restarts of whoever is asked.
 */
export async function untilEnded(cluster: LocalCluster, id: number, timeoutMs = 60_000): Promise<OperationResult> {
  const until = performance.now() + timeoutMs;
  let last: OperationResult | null = null;
  while (performance.now() < until) {
    last = await cluster.admin({ do: 'op-show', id }).catch((error: unknown) => {
      if (error instanceof TideError && error.retry === 'later') return null;
      throw error;
    });
    if (last?.endedAt) return last;
    await sleep(POLL_MS);
  }
  throw new Error(
    `operation ${id} has not ended after ${timeoutMs / 1000} s: ${last?.status} at ${last?.step}, waits for ${last?.waitsFor?.text}`,
  );
}

/**
 * Somebody's transaction that has run `sql` and stays open, in a session of its own: an operation that has to
 * wait for it does, and so waits where a test wants it. By itself it comes from another node, and may name
 * hinges.
 */
export async function hold(port: number, sql: string, user = TIDE_PEER): Promise<pg.Client> {
  const client = new pg.Client({ host: '127.0.0.1', port, user, database: 'tide' });
  client.on('error', () => {});
  await client.connect();
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await client.query(sql);
  return client;
}
