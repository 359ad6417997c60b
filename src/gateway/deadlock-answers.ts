import { errorFields, errorResponse, processOf, TYPE } from './wire/messages.ts';
import { type Onlooker, ServerFrames } from './wire/server-frames.ts';

/**
 * A deadlock over several nodes is ended by cancelling a statement, and PostgreSQL says "canceling statement
 * due to user request" (57014) then: no session can raise an error in another. Clients repeat a transaction
 * that ends with 40P01, so the pass-through says what it was.
 */
export class DeadlockAnswers {
  readonly #sessions = new Set<SessionAnswers>();

  /** What PostgreSQL sends in a new session is to pass through what this gives. */
  begin(): SessionAnswers {
    const session = new SessionAnswers();
    this.#sessions.add(session);
    return session;
  }

  end(session: SessionAnswers): void {
    this.#sessions.delete(session);
  }

  /**
   * The next error of the process is a deadlock's if it is a cancel's. False where it has no session in the
   * pass-through.
   */
  expect(processId: number, detail: string): boolean {
    const session = this.#of(processId);
    session?.expectDeadlock(detail);
    return session !== undefined;
  }

  /** It was not cancelled. */
  forget(processId: number): void {
    this.#of(processId)?.forgetDeadlock();
  }

  #of(processId: number): SessionAnswers | undefined {
    return [...this.#sessions].find((session) => session.processId === processId);
  }
}

const QUERY_CANCELED = '57014';
const HINT = 'Repeat the transaction. Deadlocks over several nodes are found by the manager: tide events lists them.';

/**
 * What a server sends in one session, but for the error of a statement that was cancelled to end a deadlock.
 */
export class SessionAnswers implements Onlooker {
  /** The process that serves the session, once it has said so. */
  processId: number | null = null;
  #detail: string | null = null;
  readonly #frames = new ServerFrames(this);

  expectDeadlock(detail: string): void {
    this.#detail = detail;
  }

  forgetDeadlock(): void {
    this.#detail = null;
  }

  /** What is to be passed on now for a piece that has come. */
  take(piece: Buffer): Buffer {
    return this.#frames.take(piece);
  }

  wants(type: number): boolean {
    if (this.#detail === null) return type === TYPE.backendKeyData && this.processId === null;
    return type === TYPE.errorResponse || type === TYPE.readyForQuery;
  }

  exchange(message: Buffer): Buffer | null {
    if (message[0] === TYPE.backendKeyData) {
      this.processId = processOf(message);
      return null;
    }
    const detail = this.#detail;
    // Whatever it was that ended, what comes after is another statement's.
    this.#detail = null;
    return message[0] === TYPE.errorResponse && detail !== null ? asDeadlock(message, detail) : null;
  }
}

/** The error as PostgreSQL would have reported a deadlock; null where it is about something else. */
export function asDeadlock(message: Buffer, detail: string): Buffer | null {
  const { C, S = 'ERROR', V = 'ERROR', W } = errorFields(message);
  if (C !== QUERY_CANCELED) return null;
  const said = { S, V, C: '40P01', M: 'deadlock detected', D: detail, H: HINT, ...(W === undefined ? {} : { W }) };
  return errorResponse({ ...said, F: 'deadlock.c', R: 'DeadLockReport' });
}
