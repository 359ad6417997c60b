import { assert, must } from '../core/assert.ts';
import { KeyedMutex } from '../core/mutex.ts';
import type { MetaStore } from '../store/meta-store.ts';
import type { OperationRecord } from './operation.ts';
import { fromStored, toStored } from './stored.ts';

const PREFIX = '/op/';
/** etcd takes 128 conditions and writes in one transaction. */
const FORGOTTEN_AT_ONCE = 40;
const keyOf = (id: number) => `${PREFIX}${String(id).padStart(10, '0')}`;

/** The operations as the meta store holds them. A record is written before the effect it announces. */
export class Journal {
  readonly #store: MetaStore;
  readonly #records = new Map<number, OperationRecord>();
  readonly #revisions = new Map<number, number>();
  readonly #writers = new KeyedMutex();
  #lastId = 0;

  private constructor(store: MetaStore) {
    this.#store = store;
  }

  static async open(store: MetaStore): Promise<Journal> {
    const journal = new Journal(store);
    for (const entry of await store.range(PREFIX)) {
      const record = fromStored(entry.value);
      journal.#records.set(record.id, record);
      journal.#revisions.set(record.id, entry.revision);
      journal.#lastId = Math.max(journal.#lastId, record.id);
    }
    return journal;
  }

  all(): OperationRecord[] {
    return [...this.#records.values()];
  }

  get(id: number): OperationRecord | undefined {
    return this.#records.get(id);
  }

  /** Writes a new operation under the next id. */
  async append(make: (id: number) => OperationRecord): Promise<OperationRecord> {
    this.#lastId += 1;
    const record = make(this.#lastId);
    await this.#put(record, 0);
    return record;
  }

  /**
   * Changes a record, one writer after the other. Throws when another process has written it: this one is not
   * its owner any more.
   */
  async update(id: number, edit: (record: OperationRecord) => OperationRecord): Promise<OperationRecord> {
    return this.#writers.run(String(id), async () => {
      const record = edit(must(this.#records.get(id), `operation ${id}`));
      await this.#put(record, must(this.#revisions.get(id), `operation ${id}`));
      return record;
    });
  }

  /** True of an operation that there was and that is kept no more. */
  isForgotten(id: number): boolean {
    return id <= this.#lastId && !this.#records.has(id);
  }

  /**
   * Forgets operations that have ended, some at a time: each transaction takes a moment and holds up nobody.
   */
  async forget(ids: readonly number[]): Promise<void> {
    for (let at = 0; at < ids.length; at += FORGOTTEN_AT_ONCE) {
      const some = ids.slice(at, at + FORGOTTEN_AT_ONCE);
      const when = some.map((id) => ({ key: keyOf(id), revision: must(this.#revisions.get(id), `operation ${id}`) }));
      const { ok } = await this.#store.txn({ when, write: some.map((id) => ({ delete: keyOf(id) })) });
      assert(ok, `operations ${some.join()} were written by another manager`);
      for (const id of some) {
        this.#records.delete(id);
        this.#revisions.delete(id);
      }
    }
  }

  async #put(record: OperationRecord, seen: number): Promise<void> {
    const key = keyOf(record.id);
    const { ok, revision } = await this.#store.txn({
      when: [{ key, revision: seen }],
      write: [{ put: key, value: toStored(record) }],
    });
    assert(ok, `operation ${record.id} was written by another manager`);
    this.#records.set(record.id, record);
    this.#revisions.set(record.id, revision);
  }
}
