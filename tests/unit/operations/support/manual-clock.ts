import type { Clock } from '../../../../src/core/clock.ts';

interface Sleeper {
  untilMs: number;
  wake: () => void;
}

/** Time that stands still until the test lets it go on to the next moment somebody sleeps for. */
export class ManualClock implements Clock {
  #nowMs = 1_000_000;
  #sleepers: Sleeper[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const sleeper: Sleeper = { untilMs: this.#nowMs + Math.max(1, ms), wake: resolve };
      this.#sleepers.push(sleeper);
      const onAbort = () => {
        this.#sleepers = this.#sleepers.filter((s) => s !== sleeper);
        resolve();
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Wakes the next sleepers; false where nobody sleeps. */
  advance(): boolean {
    if (this.#sleepers.length === 0) return false;
    this.#nowMs = Math.max(this.#nowMs, Math.min(...this.#sleepers.map((s) => s.untilMs)));
    const due = this.#sleepers.filter((s) => s.untilMs <= this.#nowMs);
    this.#sleepers = this.#sleepers.filter((s) => s.untilMs > this.#nowMs);
    for (const sleeper of due) sleeper.wake();
    return true;
  }

  /** Lets time go on for as long as the work takes. */
  async during<T>(work: Promise<T>): Promise<T> {
    let over = false;
    const ended = () => {
      over = true;
    };
    work.then(ended, ended);
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      if (over || !this.advance()) return work;
    }
  }

  /** A killed manager's sleeps never end. */
  forget(): void {
    this.#sleepers = [];
  }
}
