import { setTimeout as sleep } from 'node:timers/promises';
import { must } from '../../../src/core/assert.ts';

const AGAIN_MS = 50;

/**
 * Clients that insert rows of their own until they are told to stop, and go on after every failure. What was
 * acknowledged is kept, and when.
 */
export class Inserter {
  readonly acknowledged: { key: number; atMs: number }[] = [];
  /** `code`: the SQLSTATE; `closed` where the connection was. */
  readonly failures: { code: string; text: string }[] = [];
  longestMs = 0;
  readonly #stopping = new AbortController();
  readonly #ended: Promise<unknown>;

  /** `keys`: nobody has used them; each is taken out. */
  constructor(clients: number, keys: number[], insert: (key: number) => Promise<unknown>) {
    this.#ended = Promise.all(Array.from({ length: clients }, () => this.#loop(keys, insert)));
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#ended;
  }

  async #loop(keys: number[], insert: (key: number) => Promise<unknown>): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const key = must(keys.pop(), 'a key is left');
      const beganMs = performance.now();
      try {
        await insert(key);
        this.acknowledged.push({ key, atMs: performance.now() });
      } catch (error) {
        this.failures.push({ code: (error as { code?: string }).code ?? 'closed', text: String(error) });
        await sleep(AGAIN_MS);
      }
      this.longestMs = Math.max(this.longestMs, performance.now() - beganMs);
    }
  }
}
