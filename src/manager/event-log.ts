import type { EventRow } from '../api/results.ts';
import { type Clock, isoTime } from '../core/clock.ts';
import { TideError } from '../core/errors.ts';
import type { MetaStore, Write } from '../store/meta-store.ts';

const PREFIX = '/event/';
const KEPT = 10_000;
const keyOf = (seq: number) => `${PREFIX}${String(seq).padStart(12, '0')}`;

/**
 * What happened in the cluster, newest last; older ones than the last 10,000 are forgotten. An event is only
 * told of: where the store has no room it is kept in memory and written with the next one, and nobody fails
 * for it.
 */
export class EventLog {
  readonly #store: MetaStore;
  readonly #clock: Clock;
  readonly #rows: EventRow[];
  readonly #unwritten: Write[] = [];
  #last: number;

  private constructor(store: MetaStore, clock: Clock, rows: EventRow[]) {
    this.#store = store;
    this.#clock = clock;
    this.#rows = rows;
    this.#last = rows.at(-1)?.seq ?? 0;
  }

  static async open(store: MetaStore, clock: Clock): Promise<EventLog> {
    return new EventLog(
      store,
      clock,
      (await store.range(PREFIX)).map((e) => e.value as EventRow),
    );
  }

  async add(entry: { kind: string; text: string; node?: number; operation?: number }): Promise<void> {
    this.#last += 1;
    const row: EventRow = {
      seq: this.#last,
      at: isoTime(this.#clock.nowMs()),
      kind: entry.kind,
      node: entry.node ?? null,
      operation: entry.operation ?? null,
      text: entry.text,
    };
    this.#rows.push(row);
    this.#unwritten.push({ put: keyOf(row.seq), value: row });
    const old = this.#rows.length > KEPT ? this.#rows.shift() : undefined;
    if (old) this.#unwritten.push({ delete: keyOf(old.seq) });
    await this.flush();
  }

  /** Writes what the store had no room for. */
  async flush(): Promise<void> {
    const write = this.#unwritten.splice(0);
    if (write.length === 0) return;
    try {
      await this.#store.txn({ when: [], write });
    } catch (error) {
      this.#unwritten.unshift(...write);
      if (!(error instanceof TideError) || error.code !== 'META_FULL') throw error;
    }
  }

  after(seq: number, limit: number): EventRow[] {
    const rows = this.#rows.filter((r) => r.seq > seq);
    return seq === 0 ? rows.slice(-limit) : rows.slice(0, limit);
  }
}
