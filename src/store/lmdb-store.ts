import { open as openFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Database, open, type RootDatabase } from 'lmdb';
import { messageOf, type TideError, tideError } from '../core/errors.ts';
import type { Condition, Entry, MetaStore, Write } from './meta-store.ts';

/**
 * Of the file. What is in it has a format of its own (`format.ts`). Programs that know only format 1 of the
 * file do not look for that one, and refuse the file by this.
 */
const FILE_FORMAT = 2;
/**
 * What a new store takes of the disk before it is needed. LMDB writes to pages it has used before, so while
 * the disk is full (PostgreSQL lies on the same one) operations that make room and failovers can still be
 * journaled: some thousands of records.
 */
const RESERVE_BYTES = 8 << 20;
/** ENOSPC and EDQUOT (Linux; EDQUOT of macOS), and LMDB's own "map full". */
const NO_ROOM = new Set<unknown>([28, 122, 69, -30792]);
const NO_ROOM_NAMES = new Set<unknown>(['ENOSPC', 'EDQUOT']);
/**
 * EIO: what LMDB says of a write that was cut short, be it because the disk ran full in its middle or because
 * the disk is broken.
 */
const CUT_SHORT = 5;
/** More than most transactions write. */
const PROBE_BYTES = 4 << 20;

interface Stored {
  v: unknown;
  r: number;
}

/** The meta store in an LMDB file: one process, durable at every transaction. */
export class LmdbStore implements MetaStore {
  readonly #directory: string;
  readonly #root: RootDatabase;
  readonly #entries: Database<Stored, string>;
  readonly #facts: Database<number, string>;
  #isFull = false;

  private constructor(directory: string, root: RootDatabase) {
    this.#directory = directory;
    this.#root = root;
    this.#entries = root.openDB<Stored, string>({ name: 'entries', encoding: 'json' });
    this.#facts = root.openDB<number, string>({ name: 'facts', encoding: 'json' });
  }

  /**
   * Opens or makes the store in `directory`. Throws STORE_TOO_NEW, META_FULL, META_UNWRITABLE, and what LMDB
   * says of a file that it cannot read.
   */
  static async open(directory: string): Promise<LmdbStore> {
    // Without overlapping sync a transaction resolves when it is on disk; with it, `flushed` may wait for the
    // next write. Batches of an event turn have promises of their own, which nobody could catch: a full disk
    // would end the process.
    const root = open({ path: directory, maxDbs: 4, overlappingSync: false, eventTurnBatching: false });
    const store = new LmdbStore(directory, root);
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

  /**
   * One transaction: what it did is on disk when this returns, or undone when it throws. A child, because
   * LMDB's shared one keeps what `work` put before it threw.
   */
  async #write<T>(work: () => T): Promise<T> {
    try {
      const result = await this.#root.childTransaction(work);
      this.#isFull = false;
      return result;
    } catch (error) {
      // The reason of a failed commit comes in a promise of its own.
      const cause = await Promise.resolve((error as { commitError?: unknown }).commitError).then(
        () => error,
        (reason: unknown) => reason,
      );
      throw await this.#failure(cause);
    }
  }

  async #failure(cause: unknown): Promise<unknown> {
    const { code } = cause as { code?: unknown };
    if (code === CUT_SHORT) {
      const why = await whyNoRoom(this.#directory);
      if (why === null) return tideError('META_UNWRITABLE', { file: this.#directory, why: messageOf(cause) }, cause);
      return this.#full(why, cause);
    }
    return NO_ROOM.has(code) ? this.#full(messageOf(cause), cause) : cause;
  }

  #full(why: string, cause: unknown): TideError {
    this.#isFull = true;
    return tideError('META_FULL', { why }, cause);
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

/**
 * Why nothing more can be written to `directory`; null where there is room. Asked by writing, because quotas
 * do not show in what a file system says of itself.
 */
async function whyNoRoom(directory: string): Promise<string | null> {
  const path = join(directory, 'probe');
  try {
    const file = await openFile(path, 'w', 0o600);
    try {
      await file.writeFile(Buffer.alloc(PROBE_BYTES));
      await file.sync();
    } finally {
      await file.close();
    }
    return null;
  } catch (error) {
    return NO_ROOM_NAMES.has((error as NodeJS.ErrnoException).code) ? messageOf(error) : null;
  } finally {
    await rm(path, { force: true }).catch(() => {});
  }
}
