import { tideError } from '../core/errors.ts';
import type { Condition, Entry, MetaStore, Write } from '../store/meta-store.ts';

/**
 * The meta store of a manager that may end in the middle of a command: what was written before its end is in
 * what is exported, and everything after it is refused with MANAGER_LOST. Otherwise a command could be
 * acknowledged that whoever manages next knows nothing of.
 */
export class EndingStore implements MetaStore {
  readonly #store: MetaStore;
  readonly #node: number;
  readonly #writing = new Set<Promise<unknown>>();
  #ended = false;

  /** `node`: where the manager is. */
  constructor(store: MetaStore, node: number) {
    this.#store = store;
    this.#node = node;
  }

  get isFull(): boolean {
    return this.#store.isFull;
  }

  async get(key: string): Promise<Entry | null> {
    this.#requireOpen();
    return this.#store.get(key);
  }

  async range(prefix: string): Promise<Entry[]> {
    this.#requireOpen();
    return this.#store.range(prefix);
  }

  async txn(request: { when: Condition[]; write: Write[] }): Promise<{ ok: boolean; revision: number }> {
    this.#requireOpen();
    const written = this.#store.txn(request);
    this.#writing.add(written);
    return written.finally(() => this.#writing.delete(written));
  }

  /** Ends it, and gives all that was ever written. */
  async endAndExport(): Promise<Entry[]> {
    await this.#end();
    const entries = await this.#store.range('/');
    await this.#store.close();
    return entries;
  }

  async close(): Promise<void> {
    await this.#end();
    await this.#store.close();
  }

  async #end(): Promise<void> {
    this.#ended = true;
    await Promise.allSettled(this.#writing);
  }

  #requireOpen(): void {
    if (this.#ended) throw tideError('MANAGER_LOST', { node: this.#node });
  }
}
