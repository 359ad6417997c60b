import { TideError, tideError } from '../core/errors.ts';
import type { Condition, Entry, MetaStore, Write } from './meta-store.ts';

/**
 * The meta store as one manager sees it while it holds the seat: every write is on the condition that the key
 * of the seat is still the one it was elected with. A manager that was frozen and has been replaced writes
 * nothing, whatever it believes.
 */
export class SeatBoundStore implements MetaStore {
  readonly #store: MetaStore;
  readonly #seat: Condition;
  readonly #node: number;
  readonly #onLost: () => void;
  #lost = false;

  /** `onLost` is called once, when a write finds the seat taken. */
  constructor(store: MetaStore, seat: Condition, node: number, onLost: () => void) {
    this.#store = store;
    this.#seat = seat;
    this.#node = node;
    this.#onLost = onLost;
  }

  get isFull(): boolean {
    return this.#store.isFull;
  }

  get(key: string): Promise<Entry | null> {
    return this.#store.get(key);
  }

  range(prefix: string): Promise<Entry[]> {
    return this.#store.range(prefix);
  }

  /**
   * Throws MANAGER_LOST where another has the seat, or nobody. A write whose outcome stays unknown ends the
   * seat too: what is in memory may not be what is stored, and whoever manages next reads it anew.
   */
  async txn({ when, write }: { when: Condition[]; write: Write[] }): Promise<{ ok: boolean; revision: number }> {
    if (this.#lost) throw tideError('MANAGER_LOST', { node: this.#node });
    try {
      const result = await this.#store.txn({ when: [this.#seat, ...when], write });
      if (result.ok || (await this.#store.get(this.#seat.key))?.revision === this.#seat.revision) return result;
    } catch (error) {
      if (error instanceof TideError && error.code === 'META_UNREACHABLE') this.#tellLost();
      throw error;
    }
    this.#tellLost();
    throw tideError('MANAGER_LOST', { node: this.#node });
  }

  #tellLost(): void {
    if (this.#lost) return;
    this.#lost = true;
    this.#onLost();
  }

  /** Nothing is written through this any more. */
  lose(): void {
    this.#lost = true;
  }

  async close(): Promise<void> {}
}
