/**
 * What the catalogue says of one error: when to try again, the SQLSTATE where SQL is spoken, the sentence,
 * and what to do next. `text` names what was wrong and the value; `hint` names the next step.
 */
export interface ErrorEntry<D> {
  /**
   * `never`: the same call fails again. `later`: a passing fault. `when-cluster-changes`: another node, more
   * room, …
   */
  retry: 'never' | 'later' | 'when-cluster-changes';
  /** PostgreSQL manual, appendix A; classes `TD` and `TI` are pgtide's own. */
  sqlstate: string;
  text: (details: D) => string;
  hint: (details: D) => string;
  /** The details' array that the sentence names the first few of. */
  list?: keyof D & string;
}

/** Declares one catalogue entry with the type of its details. */
export function entry<D extends object>(definition: ErrorEntry<D>): ErrorEntry<D> {
  return definition;
}
