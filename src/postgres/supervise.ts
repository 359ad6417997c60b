import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../core/errors.ts';
import type { PostgresServer } from './server.ts';

export type SupervisorEvent =
  | { kind: 'exited'; processId: number; exit: string; logTail: string; retryMs: number }
  | { kind: 'restarted'; processId: number; tookMs: number; attempts: number }
  | { kind: 'restart-failed'; why: string; attempts: number; retryMs: number };

export interface Supervisor {
  /** Ends the supervision, not the server; returns when no restart is under way any more. */
  end(): Promise<void>;
}

const FIRST_RETRY_MS = 200;
const LAST_RETRY_MS = 10_000;
/** A server that lived this long had no trouble starting: the next exit is a new story. */
const SETTLED_MS = 60_000;

/**
 * Restarts `server`, which has been started before, whenever it ends by itself, for as long as it takes (a
 * node without PostgreSQL has nothing else to do), after pauses that double from 0.2 s to 10 s. Every exit
 * and every attempt is told to `report`.
 */
export function supervise(server: PostgresServer, report: (event: SupervisorEvent) => void): Supervisor {
  const ending = new AbortController();
  let attempts = 0;
  let upSinceMs = performance.now();
  let work: Promise<void> = Promise.resolve();

  async function restartUntilUp(): Promise<void> {
    while (!ending.signal.aborted) {
      await sleep(retryMs(attempts), undefined, { signal: ending.signal }).catch(() => {});
      if (ending.signal.aborted) return;
      attempts += 1;
      try {
        const { processId, tookMs } = await server.start();
        upSinceMs = performance.now();
        report({ kind: 'restarted', processId, tookMs, attempts });
        if (server.isRunning()) return;
      } catch (error) {
        report({ kind: 'restart-failed', why: messageOf(error), attempts, retryMs: retryMs(attempts) });
      }
    }
  }

  let restarting = false;
  function restart(): void {
    restarting = true;
    work = restartUntilUp().finally(() => {
      restarting = false;
    });
  }
  const unsubscribe = server.onExit((exit) => {
    // An exit during a restart is that restart's failure, and its loop goes on.
    if (restarting) return;
    if (performance.now() - upSinceMs > SETTLED_MS) attempts = 0;
    report({ kind: 'exited', ...exit, retryMs: retryMs(attempts) });
    restart();
  });
  // It has ended between its start and this.
  if (!server.isRunning()) restart();

  return {
    end: async () => {
      unsubscribe();
      ending.abort();
      await work;
    },
  };
}

/** Pause before the attempt after `attempts` others, milliseconds. */
export function retryMs(attempts: number): number {
  return Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** attempts);
}
