import { admin } from '../api/http-client.ts';
import { RELATIONS, type RelationName } from '../api/relations.ts';
import type { DoctorResult, PlanResult, StartedResult } from '../api/results.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import type { Work } from '../gateway/admin/reading.ts';
import { ownServer } from '../postgres/connect.ts';
import { KeptSession } from '../postgres/kept-session.ts';
import { leaveOutcome, type Outcome, type SqlError, showRows } from '../postgres/sql/shown.ts';
import { FreshRounds } from './fresh-rounds.ts';
import { planLines } from './plan-lines.ts';

export interface SqlAdminOptions {
  /** HOST:PORT at which this node takes commands; null: it is not ready. */
  readonly address: () => string | null;
  readonly clusterId: () => string | null;
  readonly server: () => { readonly port: number } | null;
  log(level: 'warn', message: string, facts: object): void;
}

/** The manager answers from memory; what it looks for on servers takes longer (`leftovers`). */
const LOOK_MS = 8_000;
const COMMAND_MS = 30_000;
const STORE_MS = 3_000;

/**
 * Carries out what clients say of the cluster in SQL, and leaves what comes of it in this node's PostgreSQL,
 * where their statements find it.
 */
export class SqlAdmin {
  readonly #options: SqlAdminOptions;
  readonly #looks = new Map<RelationName, FreshRounds>();
  #session: KeptSession | null = null;

  constructor(options: SqlAdminOptions) {
    this.#options = options;
  }

  /**
   * Comes back when these relations show what was so after the call, or why that is not known. Never throws.
   */
  async look(relations: readonly RelationName[]): Promise<void> {
    await Promise.all(relations.map((name) => this.#rounds(name).next()));
  }

  /**
   * Carries a command out, and leaves its outcome for the session that `process` serves. Null: it stands
   * where it may not. Never throws.
   */
  async perform(process: number, work: Work | null): Promise<void> {
    await this.#store((sql) => leaveOutcome(sql, process, IN_DOUBT));
    const outcome = work === null ? { error: IN_TRANSACTION, result: null } : await this.#outcomeOf(work);
    await this.#store((sql) => leaveOutcome(sql, process, outcome));
  }

  async close(): Promise<void> {
    await this.#session?.close();
  }

  #rounds(name: RelationName): FreshRounds {
    const found = this.#looks.get(name) ?? new FreshRounds(() => this.#bringUpToDate(name));
    this.#looks.set(name, found);
    return found;
  }

  async #bringUpToDate(name: RelationName): Promise<void> {
    const outcome = await caught(async () => rowsOf(await this.#ask(RELATIONS[name].command, LOOK_MS)));
    await this.#store((sql) => showRows(sql, name, outcome));
  }

  #outcomeOf(work: Work): Promise<Outcome> {
    return caught(async () => {
      if ('command' in work) return resultOf(await this.#ask(work.command, COMMAND_MS));
      const settings = await this.#ask({ do: 'setting-ls' } as const, COMMAND_MS);
      const known = settings.find(({ key }) => key === work.reset);
      // Of one that there is not: the manager says which there are.
      const value = known?.default ?? '';
      return resultOf(await this.#ask({ do: 'setting-set', key: work.reset, value }, COMMAND_MS));
    });
  }

  async #ask<R extends Parameters<typeof admin>[1]>(command: R, timeoutMs: number) {
    const address = this.#options.address();
    if (address === null) throw tideError('NO_MANAGER', { manager: 'this node', why: 'it is not ready' });
    return admin(address, command, { timeoutMs, cluster: this.#options.clusterId() ?? undefined });
  }

  /** What cannot be left is not found: the statement says so. */
  async #store(leave: (sql: KeptSession) => Promise<void>): Promise<void> {
    const { server, log } = this.#options;
    const at = server();
    if (at === null) return;
    this.#session ??= new KeptSession(() => ownServer(server() ?? at), {
      name: 'pgtide admin',
      connectMs: STORE_MS,
      answerMs: STORE_MS,
    });
    try {
      await leave(this.#session);
    } catch (error) {
      log('warn', 'what was asked in SQL could not be answered there', { error: messageOf(error) });
    }
  }
}

async function caught(work: () => Promise<unknown>): Promise<Outcome> {
  try {
    return { error: null, result: await work() };
  } catch (error) {
    return {
      error: inSql(error instanceof TideError ? error : tideError('INTERNAL', { why: messageOf(error) })),
      result: null,
    };
  }
}

function inSql({ sqlstate, code, message, hint }: TideError): SqlError {
  return { sqlstate, message, detail: `code: ${code}`, hint };
}

function rowsOf(answer: unknown): unknown {
  return Array.isArray(answer) ? answer : (answer as DoctorResult).findings;
}

/** What a statement gives: the operation that it has started, or the lines of a plan. */
function resultOf(answer: unknown): { operation: number | null; lines: string[] } {
  const { operation = null, id = null } = answer as Partial<StartedResult & { id: number }>;
  const lines = 'moves' in (answer as object) ? planLines(answer as PlanResult) : [];
  return { operation: operation ?? id, lines };
}

const IN_TRANSACTION: SqlError = {
  sqlstate: '25001',
  message: 'a change of the cluster cannot be a part of a transaction',
  detail: 'code: IN_TRANSACTION',
  hint: 'send it by itself: it is done at once, and no ROLLBACK takes it back',
};

const IN_DOUBT: Outcome = {
  error: {
    sqlstate: '08007',
    message: 'whether the command was carried out is not known: its answer did not arrive here',
    detail: 'code: UNREACHABLE',
    hint: 'look at SHOW OPERATIONS, SHOW EVENTS and SHOW CLUSTER SETTINGS before you repeat it',
  },
  result: null,
};
