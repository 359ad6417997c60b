import { admin } from '../api/http-client.ts';
import { RELATIONS, type RelationName, type SqlError } from '../api/relations.ts';
import type { DoctorResult, PlanResult, StartedResult } from '../api/results.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import type { Outcome, Work } from '../gateway/admin/reading.ts';
import { ownServer } from '../postgres/connect.ts';
import { KeptSession } from '../postgres/kept-session.ts';
import { type Shown, showRows } from '../postgres/sql/shown.ts';
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
 * Carries out what clients say of the cluster in SQL, and brings what they read of it into this node's
 * PostgreSQL.
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

  /** Carries a command out. Never throws. */
  async perform(work: Work): Promise<Outcome> {
    try {
      return outcomeOf(await this.#answerTo(work));
    } catch (error) {
      return { error: isInDoubt(error) ? IN_DOUBT : inSql(error) };
    }
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
    const shown = await this.#shown(name);
    await this.#store((sql) => showRows(sql, name, shown));
  }

  async #shown(name: RelationName): Promise<Shown> {
    try {
      const answer = await this.#ask(RELATIONS[name].command, LOOK_MS);
      return { rows: Array.isArray(answer) ? answer : (answer as DoctorResult).findings };
    } catch (error) {
      return { error: inSql(isInDoubt(error) ? noAnswer() : error) };
    }
  }

  async #answerTo(work: Work): Promise<unknown> {
    if ('command' in work) return this.#ask(work.command, COMMAND_MS);
    const settings = await this.#ask({ do: 'setting-ls' } as const, COMMAND_MS);
    const known = settings.find(({ key }) => key === work.reset);
    // Of one that there is not: the manager says which there are.
    return this.#ask({ do: 'setting-set', key: work.reset, value: known?.default ?? '' }, COMMAND_MS);
  }

  async #ask<R extends Parameters<typeof admin>[1]>(command: R, timeoutMs: number) {
    const address = this.#options.address();
    if (address === null) throw tideError('NO_MANAGER', { manager: 'this node', why: 'it is not ready' });
    return admin(address, command, { timeoutMs, cluster: this.#options.clusterId() ?? undefined });
  }

  /** What cannot be brought there is found to be old: the statement says so. */
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
      // A session that has ended meanwhile, as PostgreSQL was started again, says so once.
      await leave(this.#session).catch(() => leave(this.#session as KeptSession));
    } catch (error) {
      log('warn', 'what was asked in SQL could not be answered there', { error: messageOf(error) });
    }
  }
}

/** The call went out, and no answer came. */
function isInDoubt(error: unknown): boolean {
  return error instanceof TideError && error.code === 'UNREACHABLE' && error.details.refused !== true;
}

function noAnswer(): TideError {
  return tideError('NO_MANAGER', { manager: 'the manager', why: `it has not answered within ${LOOK_MS / 1_000} s` });
}

function inSql(error: unknown): SqlError {
  const known = error instanceof TideError ? error : tideError('INTERNAL', { why: messageOf(error) });
  // A manager of another version may say less.
  const {
    sqlstate = 'XX000',
    code,
    message,
    hint = '',
  } = known as Partial<TideError> & Pick<TideError, 'code' | 'message'>;
  return { sqlstate, message, detail: `code: ${code}`, hint };
}

/** What a statement gives: the operation that it has started, or the lines of a plan. */
function outcomeOf(answer: unknown): Outcome {
  const { operation = null, id = null } = answer as Partial<StartedResult & { id: number }>;
  const lines = 'moves' in (answer as object) ? planLines(answer as PlanResult) : [];
  return { operation: operation ?? id, lines };
}

const IN_DOUBT: SqlError = {
  sqlstate: '08007',
  message: `whether the command was carried out is not known: no answer has come within ${COMMAND_MS / 1_000} s`,
  detail: 'code: NO_MANAGER',
  hint: 'it may take effect still: look at SHOW OPERATIONS, SHOW EVENTS and SHOW CLUSTER SETTINGS before you repeat it',
};
