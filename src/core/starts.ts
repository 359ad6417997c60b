/** What a start of a node's process says of itself. */
export interface Claim {
  id: string;
  /**
   * Ids of the starts that its store has seen before, oldest first. Null: the store does not say; it is from
   * version 0.1, or its note is gone.
   */
  after: string[] | null;
  /**
   * Those of them that it knows to have ended, with their PostgreSQL or with one that this start takes over.
   */
  ended: string[];
}

/**
 * What a start is where the node has gone by the start `known` so far. `same`: that one. `next`: that one is
 * in its past, and has ended. `waits`: that one may be in its past, and may still run. `stale`: its store
 * knows nothing of that one, so the node has gone on without this copy of it.
 */
export function standingOf(known: string, { id, after, ended }: Claim): 'same' | 'next' | 'waits' | 'stale' {
  if (known === id) return 'same';
  if (after !== null && !after.includes(known)) return 'stale';
  return ended.includes(known) ? 'next' : 'waits';
}
