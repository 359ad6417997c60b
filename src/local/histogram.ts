/** Durations in buckets that grow by 5 %: percentiles of millions of samples in a few hundred numbers. */
export class Histogram {
  readonly #counts: number[] = [];
  #total = 0;
  #maxMs = 0;

  add(ms: number): void {
    const bucket = Math.max(0, Math.ceil(Math.log(Math.max(ms, SMALLEST_MS) / SMALLEST_MS) / Math.log(GROWTH)));
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#total += 1;
    this.#maxMs = Math.max(this.#maxMs, ms);
  }

  /**
   * Upper edge of the bucket in which the given share (0..1) of all samples is reached; 0 without samples.
   */
  percentileMs(share: number): number {
    let seen = 0;
    for (const [bucket, count] of this.#counts.entries()) {
      seen += count ?? 0;
      if (seen > 0 && seen >= share * this.#total) return Math.min(SMALLEST_MS * GROWTH ** bucket, this.#maxMs);
    }
    return 0;
  }
}

const SMALLEST_MS = 0.05;
const GROWTH = 1.05;

/** The value at or below which the given share of `values` lies (nearest rank); 0 without values. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
}
