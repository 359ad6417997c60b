import type { OpenSessionReport, Victim } from '../api/membership.ts';
import { ownServer } from '../postgres/connect.ts';
import { KeptSession } from '../postgres/kept-session.ts';
import { cancelTransaction, readOpenSessions } from '../postgres/sql/waits.ts';
import type { GatewayWorkers } from './gateway-workers.ts';

/** A beat does not wait longer for what the sessions do. */
const LOOK_MS = 400;
/** A cancel that has not ended its statement by then was lost. */
const AGAIN_MS = 1_000;

export interface SessionWatchOptions {
  readonly server: { readonly port: number };
  /** Whose sessions say what it was that ended them. */
  readonly clients: Pick<GatewayWorkers, 'expectDeadlock' | 'forgetDeadlock'>;
  log(level: 'info' | 'warn', message: string, facts: object): void;
}

/**
 * Looks at who waits for whom in this node's PostgreSQL, and ends what the manager has found to be in a
 * deadlock.
 */
export class SessionWatch {
  readonly #options: SessionWatchOptions;
  /** When each was cancelled, by process and transaction. */
  readonly #cancelledMs = new Map<string, number>();
  readonly #session: KeptSession;

  constructor(options: SessionWatchOptions) {
    this.#options = options;
    const waits = { connectMs: LOOK_MS, answerMs: LOOK_MS };
    this.#session = new KeptSession(() => ownServer(options.server), { name: 'pgtide sessions', ...waits });
  }

  /** Null where PostgreSQL does not say in time. */
  async look(): Promise<OpenSessionReport[] | null> {
    try {
      return await readOpenSessions(this.#session);
    } catch {
      return null;
    }
  }

  async end(victims: readonly Victim[]): Promise<void> {
    for (const victim of victims) await this.#end(victim).catch(() => {});
  }

  async #end({ pid: processId, xact, detail }: Victim): Promise<void> {
    const nowMs = performance.now();
    for (const [key, atMs] of this.#cancelledMs) if (nowMs - atMs > AGAIN_MS) this.#cancelledMs.delete(key);
    const key = `${processId} ${xact}`;
    if (this.#cancelledMs.has(key)) return;
    this.#cancelledMs.set(key, nowMs);
    const { clients, log } = this.#options;
    // Before the cancel, which is answered at once.
    const inPassThrough = await clients.expectDeadlock(processId, detail);
    const isCancelled = await cancelTransaction(this.#session, processId, xact);
    if (!isCancelled) clients.forgetDeadlock(processId);
    else log('info', 'a statement was ended, which was part of a deadlock', { processId, inPassThrough, detail });
  }

  async close(): Promise<void> {
    await this.#session.close();
  }
}
