import { must } from '../core/assert.ts';
import { KeyedMutex } from '../core/mutex.ts';
import { type NodeIdentity, readIdentity, type StoreDir, writeIdentity } from './store-dir.ts';

/** Which node this is: on disk before in memory, and one writer after the other. */
export class Identity {
  readonly #store: StoreDir;
  readonly #writers = new KeyedMutex();
  #value: NodeIdentity | null = null;

  constructor(store: StoreDir) {
    this.#store = store;
  }

  /** Null: it belongs to no cluster yet. */
  get value(): NodeIdentity | null {
    return this.#value;
  }

  get required(): NodeIdentity {
    return must(this.#value, 'identity');
  }

  async read(): Promise<void> {
    this.#value = await readIdentity(this.#store);
  }

  async begin(identity: NodeIdentity): Promise<void> {
    await writeIdentity(this.#store, identity);
    this.#value = identity;
  }

  /** Durable when it returns. `again`: written also where it seems to be so already. */
  async remember(change: Partial<NodeIdentity>, again = false): Promise<void> {
    await this.#writers.run('identity', async () => {
      const before = this.required;
      const after = { ...before, ...change };
      if (!again && JSON.stringify(after) === JSON.stringify(before)) return;
      await writeIdentity(this.#store, after);
      this.#value = after;
    });
  }
}
