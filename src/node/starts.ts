import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { must } from '../core/assert.ts';
import { messageOf, tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import type { Claim } from '../core/starts.ts';
import { storeError } from '../postgres/failures.ts';
import { writeDurably } from './durable-file.ts';
import type { StoreDir } from './store-dir.ts';

/**
 * A file of its own, under a name that version 0.1 leaves alone: what that does not know in `node.json` it
 * refuses.
 */
const FILE = 'node.lock.starts';
/**
 * Of those that were the node, and of the others, which may have been without having heard it: more than
 * anybody has missed who compares, and few enough to be told. A start that fails again and again pushes out
 * its own kind only.
 */
const KEPT = 250;

const note = z.object({
  /** Oldest first. */
  starts: z.array(
    z.object({
      id: z.string().min(1),
      /**
       * Which directory it was started on, on which machine since which boot; null where the system does not
       * say.
       */
      place: z.string().nullable(),
      /** It has been the node. */
      admitted: z.boolean(),
      /** It has ended in good order, and its PostgreSQL with it. */
      ended: z.boolean(),
    }),
  ),
  /** Which node has managed with the embedded meta store, and in which of its starts, as last heard. */
  managedBy: z.object({ node: z.int().positive(), start: z.string() }).nullable(),
});
type Note = z.infer<typeof note>;
export type ManagedBy = NonNullable<Note['managedBy']>;

/** A start, as far as what it may hold of its node's is concerned. */
export interface StartHolder {
  readonly id: string;
  /** What the start `id` of the node has, this one may take over: it is the same, or has taken its place. */
  mayHave(id: string): boolean;
}

/**
 * The starts that a store has seen, this one last. Each has a random id: of two copies of a store that are
 * both started, neither knows the id of the other, where a counter would be equal. On disk before anybody
 * hears of it, so that a crash at any moment leaves it in the past of the next.
 */
export class Starts implements StartHolder {
  readonly #file: string;
  readonly #writers = new KeyedMutex();
  readonly claim: Claim;
  #note: Note;
  /** Somebody who can judge it has let this start be the node. */
  #admitted = false;

  private constructor(file: string, claim: Claim, noted: Note) {
    this.#file = file;
    this.claim = claim;
    this.#note = noted;
  }

  /** To be called by who holds the lock of the store. Throws STORE_DAMAGED, STORE_FULL, STORE_READ_ONLY. */
  static async begin(store: StoreDir): Promise<Starts> {
    const file = join(store.root, FILE);
    const before = await read(file);
    const place = await placeOf(store.root);
    const id = randomUUID();
    const past = newest(before?.starts ?? []);
    // Where the place is the same it is the same store, no copy, and its lock says that nobody else is on it.
    const ended = past.filter((s) => s.ended || (place !== null && s.place === place)).map((s) => s.id);
    const claim = { id, after: before === null ? null : past.map((s) => s.id), ended };
    const starts = new Starts(file, claim, { starts: past, managedBy: before?.managedBy ?? null });
    await starts.#write({ starts: [...past, { id, place, admitted: false, ended: false }] });
    return starts;
  }

  get id(): string {
    return this.claim.id;
  }

  get managedBy(): ManagedBy | null {
    return this.#note.managedBy;
  }

  async admit(): Promise<void> {
    if (!this.#admitted) await this.#writeOwn({ admitted: true });
    this.#admitted = true;
  }

  mayHave(id: string): boolean {
    const { after, ended } = this.claim;
    return id === this.id || ended.includes(id) || (this.#admitted && (after === null || after.includes(id)));
  }

  async heardManager(managedBy: ManagedBy): Promise<void> {
    const { node, start } = this.#note.managedBy ?? {};
    if (node !== managedBy.node || start !== managedBy.start) await this.#write({ managedBy });
  }

  /** Nothing of this start runs any more. */
  async end(): Promise<void> {
    await this.#writeOwn({ ended: true });
  }

  async #writeOwn(change: { admitted?: true; ended?: true }): Promise<void> {
    const { starts } = this.#note;
    await this.#write({ starts: starts.with(-1, { ...must(starts.at(-1), 'this start'), ...change }) });
  }

  async #write(change: Partial<Note>): Promise<void> {
    await this.#writers.run('note', async () => {
      const after = { ...this.#note, ...change };
      await writeDurably(this.#file, `${JSON.stringify(after)}\n`).catch((error) => {
        throw storeError(this.#file, error);
      });
      this.#note = after;
    });
  }
}

function newest(starts: Note['starts']): Note['starts'] {
  const kept = [true, false].flatMap((admitted) => starts.filter((s) => s.admitted === admitted).slice(-KEPT));
  return starts.filter((s) => kept.includes(s));
}

async function read(file: string): Promise<Note | null> {
  try {
    const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      return note.parse(JSON.parse(await handle.readFile('utf8')));
    } finally {
      await handle.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    if ((error as NodeJS.ErrnoException).code !== undefined) throw storeError(file, error);
    throw tideError('STORE_DAMAGED', { file, why: messageOf(error) });
  }
}

/**
 * Tells a directory from every copy of it: the boot, the processes that see each other (containers do not),
 * and the directory itself, of which the number may be given anew but not with the same birth. Null where the
 * system does not say so.
 */
async function placeOf(dir: string): Promise<string | null> {
  try {
    const [boot, pids, { dev, ino, birthtimeNs }] = await Promise.all([
      readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
      readlink('/proc/self/ns/pid'),
      stat(dir, { bigint: true }),
    ]);
    return [boot.trim(), pids, dev, ino, birthtimeNs].join('/');
  } catch {
    return null;
  }
}
