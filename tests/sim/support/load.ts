/**
 * What a thousand seeds have to have done at the least, about half of what they do: a simulation in which nothing happens breaks no rule.
 * Figures are of the whole sweep.
 */
export const LOAD_PER_THOUSAND: Readonly<Record<string, number>> = {
  events: 5_000,
};

/** What there was too little of; empty: nothing. */
export function lacking(counts: ReadonlyMap<string, number>, seeds: number): string[] {
  return Object.entries(LOAD_PER_THOUSAND).flatMap(([what, atLeast]) => {
    const found = counts.get(what) ?? 0;
    return found < (atLeast * seeds) / 1_000 ? [`${found} ${what}, of ${(atLeast * seeds) / 1_000} at the least`] : [];
  });
}
