import { tideError } from '../../../../src/core/errors.ts';
import type { MemoryStore } from '../../../../src/store/memory-store.ts';
import type { SharedStore } from '../../../../src/store/meta-store.ts';

/** The store as one node reaches it: cut off, it does not answer that one. */
export class Line implements SharedStore {
  cut = false;
  readonly isFull = false;
  readonly #store: MemoryStore;
  constructor(store: MemoryStore) {
    this.#store = store;
  }
  async #ask<T>(work: () => Promise<T>): Promise<T> {
    if (this.cut) throw tideError('META_UNREACHABLE', { endpoints: 'e', why: 'cut' });
    return work();
  }
  get = (key: string) => this.#ask(() => this.#store.get(key));
  range = (prefix: string) => this.#ask(() => this.#store.range(prefix));
  txn = (request: Parameters<SharedStore['txn']>[0]) => this.#ask(() => this.#store.txn(request));
  grant = (ttlMs: number) => this.#ask(() => this.#store.grant(ttlMs));
  keepAlive = (lease: string) => this.#ask(() => this.#store.keepAlive(lease));
  revoke = (lease: string) => this.#ask(() => this.#store.revoke(lease));
  close = async () => {};
}
