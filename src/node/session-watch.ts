import pg from 'pg';
import type { OpenSessionReport, Victim } from '../api/membership.ts';
import { TIDE_DATABASE, TIDE_MANAGER } from '../postgres/config.ts';
import type { Sql } from '../postgres/sql/client.ts';
import { cancelTransaction, readOpenSessions } from '../postgres/sql/waits.ts';
import type { DeadlockAnswers } from './deadlock-answers.ts';

/** A beat does not wait longer for what the sessions do. */
const LOOK_MS = 400;
/** A cancel that has not ended its statement by then was lost. */
const AGAIN_MS = 1_000;

export interface SessionWatchOptions {
  readonly server: { readonly port: number };
  readonly answers: DeadlockAnswers;
  log(level: 'info' | 'warn', message: string, facts: object): void;
}

/** Looks at who waits for whom in this node's PostgreSQL, and ends what the manager has found to be in a deadlock. */
export class SessionWatch {
  readonly #options: SessionWatchOptions;
  /** When each was cancelled, by pid and transaction. */
  readonly #cancelledMs = new Map<string, number>();
  #client: pg.Client | null = null;

  constructor(options: SessionWatchOptions) {
    this.#options = options;
  }

  /** Null where PostgreSQL does not say in time. */
  async look(): Promise<OpenSessionReport[] | null> {
    try {
      return await readOpenSessions(await this.#connected());
    } catch {
      this.#drop();
      return null;
    }
  }

  async end(victims: readonly Victim[]): Promise<void> {
    for (const victim of victims) await this.#end(victim).catch(() => this.#drop());
  }

  async #end({ pid, xact, detail }: Victim): Promise<void> {
    const nowMs = performance.now();
    for (const [key, atMs] of this.#cancelledMs) if (nowMs - atMs > AGAIN_MS) this.#cancelledMs.delete(key);
    const key = `${pid} ${xact}`;
    if (this.#cancelledMs.has(key)) return;
    this.#cancelledMs.set(key, nowMs);
    const { answers, log } = this.#options;
    const sql = await this.#connected();
    // Before the cancel, which is answered at once.
    const byGateway = answers.expect(pid, detail);
    const isCancelled = await cancelTransaction(sql, pid, xact);
    if (!isCancelled) answers.forget(pid);
    else log('info', 'a statement was ended, which was part of a deadlock', { pid, byGateway, detail });
  }

  async close(): Promise<void> {
    await this.#client?.end().catch(() => {});
  }

  async #connected(): Promise<Sql> {
    const client = this.#client ?? (await this.#connect());
    return { query: async (text, values) => (await client.query(text, values)).rows };
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: this.#options.server.port,
      user: TIDE_MANAGER,
      database: TIDE_DATABASE,
      application_name: 'pgtide sessions',
      connectionTimeoutMillis: LOOK_MS,
      query_timeout: LOOK_MS,
      options: '-c search_path=pg_catalog -c datestyle=ISO -c jit=off',
    });
    client.on('error', () => {});
    this.#client = client;
    await client.connect();
    return client;
  }

  #drop(): void {
    const broken = this.#client;
    this.#client = null;
    broken?.end().catch(() => {});
  }
}
