import type { Clock } from '../../src/core/clock.ts';

interface Sleeper {
  untilMs: number;
  wake: () => void;
}

/** Time that stands still until the test lets it go on to the next moment somebody sleeps for. */
export class ManualClock implements Clock {
  #nowMs = 1_000_000;
  /** In the order in which they wake; of those that wake at once, in the order in which they fell asleep. */
  #sleepers: Sleeper[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const onAbort = () => {
        this.#sleepers = this.#sleepers.filter((s) => s !== sleeper);
        resolve();
      };
      const wake = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const sleeper: Sleeper = { untilMs: this.#nowMs + Math.max(1, ms), wake };
      const after = this.#sleepers.findLastIndex((s) => s.untilMs <= sleeper.untilMs);
      this.#sleepers.splice(after + 1, 0, sleeper);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Wakes the next sleepers; false where nobody sleeps. */
  advance(): boolean {
    const [first] = this.#sleepers;
    if (!first) return false;
    this.#nowMs = Math.max(this.#nowMs, first.untilMs);
    const later = this.#sleepers.findIndex((s) => s.untilMs > this.#nowMs);
    for (const sleeper of this.#sleepers.splice(0, later < 0 ? this.#sleepers.length : later)) sleeper.wake();
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
