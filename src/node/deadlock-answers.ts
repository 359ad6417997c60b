import { ServerFrames } from './server-frames.ts';

/**
 * A deadlock over several nodes is ended by cancelling a statement, and PostgreSQL says "canceling statement due to user request" (57014) then: no
 * session can raise an error in another. Clients repeat a transaction that ends with 40P01, so the gateway says what it was.
 */
export class DeadlockAnswers {
  readonly #sessions = new Set<ServerFrames>();

  /** What PostgreSQL sends in a new session is to pass through what this gives. */
  begin(): ServerFrames {
    const frames = new ServerFrames();
    this.#sessions.add(frames);
    return frames;
  }

  end(frames: ServerFrames): void {
    this.#sessions.delete(frames);
  }

  /** The next error of the process is a deadlock's if it is a cancel's. False where it has no session through this gateway. */
  expect(pid: number, detail: string): boolean {
    const frames = this.#of(pid);
    frames?.expectDeadlock(detail);
    return frames !== undefined;
  }

  /** It was not cancelled. */
  forget(pid: number): void {
    this.#of(pid)?.forgetDeadlock();
  }

  #of(pid: number): ServerFrames | undefined {
    return [...this.#sessions].find((frames) => frames.pid === pid);
  }
}
