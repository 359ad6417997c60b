/**
 * Work that is begun again round after round, one piece at a time for every key: one that is still at work is
 * left alone, and holds up no other.
 */
export class Rounds<Key> {
  readonly #failed: (key: Key, error: unknown) => void;
  readonly #atWork = new Map<Key, Promise<void>>();

  /** `failed`: hears why a piece of work was not finished. */
  constructor(failed: (key: Key, error: unknown) => void) {
    this.#failed = failed;
  }

  begin(keys: readonly Key[], work: (key: Key) => Promise<void>): void {
    for (const key of keys.filter((k) => !this.#atWork.has(k))) {
      const begun = work(key)
        .catch((error) => this.#failed(key, error))
        .finally(() => this.#atWork.delete(key));
      this.#atWork.set(key, begun);
    }
  }

  /** Until the work that was begun has ended. */
  async idle(): Promise<void> {
    await Promise.all(this.#atWork.values());
  }
}
