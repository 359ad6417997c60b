/** Counts of a draft, by number. */
export function bump(counts: Int32Array | Float64Array, index: number, by: number): void {
  counts[index] = (counts[index] ?? 0) + by;
}
