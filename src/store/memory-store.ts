import { tideError } from '../core/errors.ts';
import type { Condition, Entry, MetaStore, Write } from './meta-store.ts';

/** The store for tests and the simulator. Values are copied in and out, as through a wire. */
export class MemoryStore implements MetaStore {
  readonly #entries = new Map<string, Entry>();
  /** Set by tests: nothing can be written. */
  isFull = false;
  #revision = 0;

  async get(key: string): Promise<Entry | null> {
    const found = this.#entries.get(key);
    return found ? structuredClone(found) : null;
  }

  async range(prefix: string): Promise<Entry[]> {
    return [...this.#entries.values()]
      .filter((e) => e.key.startsWith(prefix))
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .map((e) => structuredClone(e));
  }

  async txn({ when, write }: { when: Condition[]; write: Write[] }): Promise<{ ok: boolean; revision: number }> {
    if (this.isFull) throw tideError('META_FULL', { why: 'no space left in memory' });
    const holds = when.every((c) => (this.#entries.get(c.key)?.revision ?? 0) === c.revision);
    if (!holds) return { ok: false, revision: this.#revision };
    this.#revision += 1;
    for (const w of write) {
      if ('delete' in w) this.#entries.delete(w.delete);
      else {
        const value = structuredClone(w.value);
        this.#entries.set(w.put, { key: w.put, value, revision: this.#revision });
      }
    }
    return { ok: true, revision: this.#revision };
  }

  async close(): Promise<void> {}
}
