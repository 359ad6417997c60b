/** Sentences name this many; who wants to know all of them is given the list. */
export const NAMED_MAX = 5;

/** `acct 1, acct 2 and 34 more` */
export function few(names: readonly string[]): string {
  const more = names.length - NAMED_MAX;
  return names.slice(0, NAMED_MAX).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** `acct 1, acct 2`; where that is not all of them: `36 partitions (acct 1, acct 2, … and 31 more)`. */
export function counted(names: readonly string[], kind: string): string {
  return names.length <= NAMED_MAX ? names.join(', ') : `${names.length} ${kind} (${few(names)})`;
}
