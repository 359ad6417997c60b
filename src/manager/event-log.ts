import type { EventRow } from '../api/results.ts';
import { type Clock, isoTime } from '../core/clock.ts';
import type { MetaStore } from '../store/meta-store.ts';

const PREFIX = '/event/';
const KEPT = 10_000;
const keyOf = (seq: number) => `${PREFIX}${String(seq).padStart(12, '0')}`;

/** What happened in the cluster, newest last; older ones than the last 10,000 are forgotten. */
export class EventLog {
  readonly #store: MetaStore;
  readonly #clock: Clock;
  readonly #rows: EventRow[];
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
    const old = this.#rows.length > KEPT ? this.#rows.shift() : undefined;
    const forget = old ? [{ delete: keyOf(old.seq) }] : [];
    await this.#store.txn({ when: [], write: [{ put: keyOf(row.seq), value: row }, ...forget] });
  }

  after(seq: number, limit: number): EventRow[] {
    const rows = this.#rows.filter((r) => r.seq > seq);
    return seq === 0 ? rows.slice(-limit) : rows.slice(0, limit);
  }
}
