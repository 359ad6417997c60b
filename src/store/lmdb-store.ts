import { type Database, open, type RootDatabase } from 'lmdb';
import { tideError } from '../core/errors.ts';
import type { Condition, Entry, MetaStore, Write } from './meta-store.ts';

/**
 * Of the file. What is in it has a format of its own (format.ts), which programs that know format 1 of the file only do not look for.
 */
const FILE_FORMAT = 2;

interface Stored {
  v: unknown;
  r: number;
}

/** The meta store in an LMDB file: one process, durable at every transaction. */
export class LmdbStore implements MetaStore {
  readonly #root: RootDatabase;
  readonly #entries: Database<Stored, string>;
  readonly #facts: Database<number, string>;

  private constructor(root: RootDatabase) {
    this.#root = root;
    this.#entries = root.openDB<Stored, string>({ name: 'entries', encoding: 'json' });
    this.#facts = root.openDB<number, string>({ name: 'facts', encoding: 'json' });
  }

  /** Opens or makes the store in `directory`. Throws STORE_TOO_NEW. */
  static async open(directory: string): Promise<LmdbStore> {
    // Without overlapping sync a transaction resolves when it is on disk; with it, `flushed` may wait for the next write.
    const store = new LmdbStore(open({ path: directory, maxDbs: 4, overlappingSync: false }));
    const found = store.#facts.get('format') ?? 0;
    if (found < FILE_FORMAT) await store.#facts.put('format', FILE_FORMAT);
    if (found > FILE_FORMAT) {
      await store.close();
      throw tideError('STORE_TOO_NEW', { path: directory, found, known: FILE_FORMAT });
    }
    return store;
  }

  async get(key: string): Promise<Entry | null> {
    const found = this.#entries.get(key);
    return found ? { key, value: found.v, revision: found.r } : null;
  }

  async range(prefix: string): Promise<Entry[]> {
    const found = this.#entries.getRange({ start: prefix, end: `${prefix}\uffff` });
    return [...found.map(({ key, value }) => ({ key, value: value.v, revision: value.r }))];
  }

  async txn({ when, write }: { when: Condition[]; write: Write[] }): Promise<{ ok: boolean; revision: number }> {
    return this.#root.transaction(() => {
      const revision = this.#facts.get('revision') ?? 0;
      if (!when.every((c) => (this.#entries.get(c.key)?.r ?? 0) === c.revision)) return { ok: false, revision };
      for (const w of write) {
        // Inside a transaction writes are done at once; its own promise tells when they are on disk.
        if ('delete' in w) void this.#entries.remove(w.delete);
        else void this.#entries.put(w.put, { v: w.value, r: revision + 1 });
      }
      void this.#facts.put('revision', revision + 1);
      return { ok: true, revision: revision + 1 };
    });
  }

  async close(): Promise<void> {
    await this.#root.close();
  }
}
