/**
 * Does the same work for many who ask for it: whoever asks while it is done gets the next round, which has
 * begun after he asked, together with all who ask until then.
 */
export class FreshRounds {
  readonly #work: () => Promise<void>;
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  /** Comes back with the end of a round that has begun after this call. */
  next(): Promise<void> {
    if (this.#running === null) return this.#run();
    const again = () => {
      this.#next = null;
      return this.#run();
    };
    this.#next ??= this.#running.then(again, again);
    return this.#next;
  }

  #run(): Promise<void> {
    this.#running = this.#work().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }
}
