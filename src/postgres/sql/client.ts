import pg from 'pg';
import { messageOf, TideError, tideError } from '../../core/errors.ts';
import { type Address, poolOf } from '../connect.ts';
import { ensureRoles } from './roles.ts';
import type { Sql } from './sql.ts';
import { announceTerm, managerName } from './term.ts';

export type { Sql } from './sql.ts';

/** The statements of one session that is connected. */
export function sqlOf(client: pg.ClientBase): Sql {
  return { query: async (text, values) => (await client.query(text, values)).rows };
}

const CONNECT_TIMEOUT_MS = 3_000;
const STATEMENT_TIMEOUT_MS = 15_000;

/**
 * Connections of the manager to the PostgreSQL of every node. Each statement is bounded on both sides: a
 * frozen server cannot hang an operation, and a vanished client cannot leave a statement behind.
 * `synchronous_commit = local`: these sessions repair the quorum that they would otherwise wait for
 * (docs/spec/quorum.md).
 */
export class NodeConnections {
  readonly #addressOf: (node: number) => Address;
  readonly #reachable: (node: number) => boolean;
  readonly #term: number | null;
  /** Sessions that have announced the manager's term. */
  readonly #announced = new WeakSet<pg.PoolClient>();
  readonly #busy = new Set<pg.PoolClient>();
  /** Why a session ended while nothing waited for its answer: the next statement only finds that it has. */
  readonly #endings = new WeakMap<pg.ClientBase, Error>();
  /** Servers that are known to have the roles. */
  readonly #withRoles = new WeakSet<pg.Pool>();
  #isCut = false;
  readonly #pools = new Map<number, { address: Address; pool: pg.Pool }>();

  /**
   * `reachable`: what heartbeats say; a statement on a node that stops beating is given up at once.
   * `term`: the manager's, where several nodes could manage; null where nobody else can.
   */
  constructor(addressOf: (node: number) => Address, reachable: (node: number) => boolean, term: number | null) {
    this.#term = term;
    this.#addressOf = addressOf;
    this.#reachable = reachable;
  }

  /** Statements on a node; NODE_UNREACHABLE where its PostgreSQL does not answer in time. */
  on(node: number): Sql {
    return {
      query: async (text, values) => {
        const client = await this.#connect(node);
        return this.#run(node, client, text, values, (broken) => this.#release(client, broken));
      },
    };
  }

  /**
   * One session for several statements, as transactions need. A session that failed is closed, never reused.
   */
  async session<T>(node: number, work: (sql: Sql) => Promise<T>): Promise<T> {
    const client = await this.#connect(node);
    let broken = true;
    try {
      const result = await work({
        query: (text, values) => this.#run(node, client, text, values, () => {}),
      });
      broken = false;
      return result;
    } finally {
      this.#release(client, broken);
    }
  }

  /** Forgets a node's connections, e.g. because it was found frozen. */
  async close(node?: number): Promise<void> {
    const chosen = [...this.#pools.entries()].filter(([id]) => node === undefined || id === node);
    for (const [id] of chosen) this.#pools.delete(id);
    await Promise.all(chosen.map(([, entry]) => entry.pool.end().catch(() => {})));
  }

  async #connect(node: number): Promise<pg.PoolClient> {
    const pool = this.#pool(node);
    let client: pg.PoolClient;
    try {
      if (this.#isCut) throw tideError('NODE_UNREACHABLE', { node, why: 'this manager has let go' });
      client = await pool.connect();
    } catch (error) {
      throw tideError('NODE_UNREACHABLE', { node, why: messageOf(error) }, error);
    }
    this.#busy.add(client);
    try {
      if (this.#isCut) throw tideError('NODE_UNREACHABLE', { node, why: 'this manager has let go' });
      if (this.#term !== null && !this.#announced.has(client)) await announceTerm(client, this.#term);
      this.#announced.add(client);
      if (!this.#withRoles.has(pool)) await ensureRoles(sqlOf(client));
      this.#withRoles.add(pool);
      return client;
    } catch (error) {
      this.#release(client, true);
      throw tideError('NODE_UNREACHABLE', { node, why: messageOf(error) }, error);
    }
  }

  #release(client: pg.PoolClient, broken: boolean): void {
    this.#busy.delete(client);
    client.release(broken);
  }

  /**
   * Ends every statement under way, and lets nothing new begin: the manager whose connections these are is
   * one no more.
   */
  cut(): void {
    this.#isCut = true;
    for (const client of this.#busy) (client as pg.PoolClient & { end(): Promise<void> }).end().catch(() => {});
  }

  async #run<R extends pg.QueryResultRow>(
    node: number,
    client: pg.PoolClient,
    text: string,
    values: unknown[] | undefined,
    release: (broken: boolean) => void,
  ): Promise<R[]> {
    try {
      const running = values === undefined ? client.query<R>(text) : client.query<R>(text, values);
      const result = await this.#whileReachable(node, running);
      release(false);
      return result.rows ?? [];
    } catch (error) {
      // Not reused even after an ordinary error: a multi-statement text may have left its transaction open.
      release(true);
      if (error instanceof pg.DatabaseError && error.severity !== 'FATAL') throw error;
      const cause = error instanceof pg.DatabaseError ? error : (this.#endings.get(client) ?? error);
      throw tideError('NODE_UNREACHABLE', { node, why: messageOf(cause) }, cause);
    }
  }

  /**
   * A frozen server keeps its connections open and says nothing; only its silence towards the manager tells.
   */
  async #whileReachable<T>(node: number, work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const silence = new Promise<never>((_, reject) => {
      timer = setInterval(() => {
        if (!this.#reachable(node)) reject(new Error('the node stopped beating'));
      }, 250);
    });
    work.catch(() => {});
    try {
      return await Promise.race([work, silence]);
    } finally {
      clearInterval(timer);
    }
  }

  #pool(node: number): pg.Pool {
    const address = this.#addressOf(node);
    const found = this.#pools.get(node);
    if (found && found.address.host === address.host && found.address.port === address.port) return found.pool;
    if (found) found.pool.end().catch(() => {});
    const pool = poolOf(address, {
      name: managerName(this.#term),
      max: 12,
      connectMs: CONNECT_TIMEOUT_MS,
      idleMs: 30_000,
      answerMs: STATEMENT_TIMEOUT_MS + 2_000,
      settings: {
        // What the guard of version 0.1.0 asks for.
        'tide.internal': 'on',
        session_replication_role: 'origin',
        synchronous_commit: 'local',
        statement_timeout: String(STATEMENT_TIMEOUT_MS),
        idle_in_transaction_session_timeout: '60000',
      },
    });
    pool.on('connect', (client) => client.once('error', (error) => this.#endings.set(client, error)));
    this.#pools.set(node, { address, pool });
    return pool;
  }
}

/** The SQLSTATE of a PostgreSQL error, also of one that ended the session, or null for anything else. */
export function sqlstateOf(error: unknown): string | null {
  if (error instanceof TideError) return sqlstateOf(error.cause);
  return error instanceof pg.DatabaseError ? (error.code ?? null) : null;
}

/** 55P03 lock_timeout, 57014 statement_timeout, 40P01 deadlock: the lock was not to be had now. */
export function isLockFailure(error: unknown): boolean {
  return ['55P03', '57014', '40P01'].includes(sqlstateOf(error) ?? '');
}

export const ident = pg.escapeIdentifier;
export const literal = pg.escapeLiteral;

/** `"tide_data"."t4_p0"` */
export function qualified(schema: string, name: string): string {
  return `${ident(schema)}.${ident(name)}`;
}
