import { must } from '../core/assert.ts';

/** What the cluster has to hold under one key. */
export interface LedgerEntry {
  /** Value of the last acknowledged write. */
  readonly value: string;
  /**
   * Acknowledged writes of this key; the row counts its own, so that a lost one in the middle shows as well.
   */
  readonly writes: number;
  /** A write whose answer never came: it may stand or not. The key is not written again. */
  readonly inDoubt: string | null;
}

export interface FoundRow {
  readonly value: string;
  readonly writes: number;
}

/** Every write the cluster has acknowledged. A key belongs to one writer, which waits for each answer. */
export class Ledger {
  readonly #entries = new Map<number, LedgerEntry>();
  #acknowledged = 0;

  acknowledge(key: number, value: string): void {
    const writes = (this.#entries.get(key)?.writes ?? 0) + 1;
    this.#entries.set(key, { value, writes, inDoubt: null });
    this.#acknowledged += 1;
  }

  /** A key that was never acknowledged and may or may not exist is of no interest to the proof. */
  doubt(key: number, value: string): void {
    const entry = this.#entries.get(key);
    if (entry) this.#entries.set(key, { ...entry, inDoubt: value });
  }

  get acknowledged(): number {
    return this.#acknowledged;
  }

  get keys(): number {
    return this.#entries.size;
  }

  expected(key: number): LedgerEntry {
    return must(this.#entries.get(key), `ledger entry ${key}`);
  }

  /** Keys whose row is not there or does not hold every acknowledged write, each with how many are lost. */
  lost(found: ReadonlyMap<number, FoundRow>): Map<number, number> {
    const lost = new Map<number, number>();
    for (const [key, entry] of this.#entries) {
      const count = lostWrites(entry, found.get(key));
      if (count > 0) lost.set(key, count);
    }
    return lost;
  }
}

function lostWrites(entry: LedgerEntry, row: FoundRow | undefined): number {
  if (!row) return entry.writes;
  if (row.writes === entry.writes && row.value === entry.value) return 0;
  if (row.writes === entry.writes + 1 && row.value === entry.inDoubt) return 0;
  return Math.max(1, entry.writes - row.writes);
}
