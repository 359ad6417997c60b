import { type Database, open, type RootDatabase } from 'lmdb';
import { messageOf, tideError } from '../core/errors.ts';
import type { Condition, Entry, MetaStore, Write } from './meta-store.ts';

/**
 * Of the file. What is in it has a format of its own (format.ts), which programs that know format 1 of the file only do not look for.
 */
const FILE_FORMAT = 2;
/**
 * What a new store takes of the disk before it is needed. LMDB writes to pages it has used before, so while the disk is full (PostgreSQL
 * lies on the same one) operations that make room and failovers can still be journaled: some thousands of records.
 */
const RESERVE_BYTES = 8 << 20;
/** ENOSPC and EDQUOT (Linux; EDQUOT of macOS), and LMDB's own "map full". */
const NO_ROOM = new Set<unknown>([28, 122, 69, -30792]);

interface Stored {
  v: unknown;
  r: number;
}

/** The meta store in an LMDB file: one process, durable at every transaction. */
export class LmdbStore implements MetaStore {
  readonly #root: RootDatabase;
  readonly #entries: Database<Stored, string>;
  readonly #facts: Database<number, string>;
  #isFull = false;

  private constructor(root: RootDatabase) {
    this.#root = root;
    this.#entries = root.openDB<Stored, string>({ name: 'entries', encoding: 'json' });
    this.#facts = root.openDB<number, string>({ name: 'facts', encoding: 'json' });
  }

  /** Opens or makes the store in `directory`. Throws STORE_TOO_NEW, META_FULL. */
  static async open(directory: string): Promise<LmdbStore> {
    // Without overlapping sync a transaction resolves when it is on disk; with it, `flushed` may wait for the next write.
    // Batches of an event turn have promises of their own, which nobody could catch: a full disk would end the process.
    const root = open({ path: directory, maxDbs: 4, overlappingSync: false, eventTurnBatching: false });
    const store = new LmdbStore(root);
    const found = store.#facts.get('format') ?? 0;
    if (found > FILE_FORMAT) {
      await store.close();
      throw tideError('STORE_TOO_NEW', { path: directory, found, known: FILE_FORMAT });
    }
    if (found === 0) await store.#reserve();
    if (found < FILE_FORMAT) await store.#write(() => store.#facts.putSync('format', FILE_FORMAT));
    return store;
  }

  async #reserve(): Promise<void> {
    const filling = this.#root.openDB<Buffer, string>({ name: 'reserve', encoding: 'binary' });
    await this.#write(() => filling.putSync('filling', Buffer.alloc(RESERVE_BYTES)));
    await this.#write(() => filling.removeSync('filling'));
  }

  get isFull(): boolean {
    return this.#isFull;
  }

  /** One transaction: what it did is on disk when this returns, or undone when it throws. */
  async #write<T>(work: () => T): Promise<T> {
    try {
      const result = await this.#root.transaction(work);
      this.#isFull = false;
      return result;
    } catch (error) {
      // The reason of a failed commit comes in a promise of its own.
      const cause = await Promise.resolve((error as { commitError?: unknown }).commitError).then(
        () => error,
        (reason: unknown) => reason,
      );
      if (!NO_ROOM.has((cause as { code?: unknown }).code)) throw cause;
      this.#isFull = true;
      throw tideError('META_FULL', { why: messageOf(cause) }, cause);
    }
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
    return this.#write(() => {
      const revision = this.#facts.get('revision') ?? 0;
      if (!when.every((c) => (this.#entries.get(c.key)?.r ?? 0) === c.revision)) return { ok: false, revision };
      for (const w of write) {
        if ('delete' in w) this.#entries.removeSync(w.delete);
        else this.#entries.putSync(w.put, { v: w.value, r: revision + 1 });
      }
      this.#facts.putSync('revision', revision + 1);
      return { ok: true, revision: revision + 1 };
    });
  }

  async close(): Promise<void> {
    await this.#root.close();
  }
}
