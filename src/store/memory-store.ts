import { tideError } from '../core/errors.ts';
import type { Condition, Entry, SharedStore, Write } from './meta-store.ts';

interface Kept {
  key: string;
  json: string;
  revision: number;
  lease: string | undefined;
}

/** The store for tests and the simulator. Values go in and out as JSON, as through a wire. */
export class MemoryStore implements SharedStore {
  readonly #entries = new Map<string, Kept>();
  /** Set by tests: nothing can be written. */
  isFull = false;
  readonly #leases = new Map<string, { ttlMs: number; untilMs: number }>();
  readonly #nowMs: () => number;
  #revision = 0;
  #lastLease = 0;

  /** `nowMs` never goes backwards; leases run by it. */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  async get(key: string): Promise<Entry | null> {
    this.#expire();
    const found = this.#entries.get(key);
    return found ? entryOf(found) : null;
  }

  async range(prefix: string): Promise<Entry[]> {
    this.#expire();
    return [...this.#entries.values()]
      .filter((e) => e.key.startsWith(prefix))
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .map(entryOf);
  }

  async txn({ when, write }: { when: Condition[]; write: Write[] }): Promise<{ ok: boolean; revision: number }> {
    if (this.isFull) throw tideError('META_FULL', { why: 'no space left in memory' });
    this.#expire();
    const holds = when.every((c) => (this.#entries.get(c.key)?.revision ?? 0) === c.revision);
    if (!holds) return { ok: false, revision: this.#revision };
    this.#revision += 1;
    for (const w of write) {
      if ('delete' in w) this.#entries.delete(w.delete);
      else {
        const json = JSON.stringify(w.value);
        this.#entries.set(w.put, { key: w.put, json, revision: this.#revision, lease: w.lease });
      }
    }
    return { ok: true, revision: this.#revision };
  }

  async grant(ttlMs: number): Promise<string> {
    const id = String(++this.#lastLease);
    this.#leases.set(id, { ttlMs, untilMs: this.#nowMs() + ttlMs });
    return id;
  }

  async keepAlive(lease: string): Promise<boolean> {
    this.#expire();
    const found = this.#leases.get(lease);
    if (found) found.untilMs = this.#nowMs() + found.ttlMs;
    return found !== undefined;
  }

  async revoke(lease: string): Promise<void> {
    this.#leases.delete(lease);
    this.#expire();
  }

  async close(): Promise<void> {}

  #expire(): void {
    if (this.#lastLease === 0) return;
    for (const [id, { untilMs }] of this.#leases) if (this.#nowMs() > untilMs) this.#leases.delete(id);
    for (const { key, lease } of this.#entries.values()) {
      if (lease === undefined || this.#leases.has(lease)) continue;
      this.#entries.delete(key);
      this.#revision += 1;
    }
  }
}

function entryOf({ key, json, revision }: Kept): Entry {
  return { key, value: JSON.parse(json), revision };
}
