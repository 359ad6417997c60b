import type { Settings } from '../catalog/model.ts';

/**
 * How long a swing may hold up a partition, and when it is not to try at all. A swing gets its lock when
 * those who have used the partition have ended, and whoever comes after its request waits behind it: beside
 * transactions that follow each other without a gap it ends only if it may wait for as long as one of them
 * lasts. So the budget grows with the tries, from `move.max_pause` to `move.max_pause_limit`.
 */

/** What has been tried at one place in vain. */
export interface Patience {
  readonly tries: number;
  /** The transaction that was waited for last, without a try, by its process. */
  readonly met: { readonly pid: number; readonly sinceMs: number } | null;
}

export const FRESH: Patience = { tries: 0, met: null };

/** The budget doubles after so many tries, and then again and again. */
const GROW_AFTER = 6;
const GROW_EVERY = 2;

type PauseSettings = Pick<Settings, 'move.max_pause' | 'move.max_pause_limit'>;

export function pauseBudget(settings: PauseSettings, { tries }: Patience): number {
  const base = settings['move.max_pause'];
  const doublings = tries < GROW_AFTER ? 0 : 1 + Math.floor((tries - GROW_AFTER) / GROW_EVERY);
  return Math.min(pauseLimit(settings), base * 2 ** Math.min(doublings, 16));
}

/** A limit below `move.max_pause` is none: the budget does not grow. */
export function pauseLimit(settings: PauseSettings): number {
  return Math.max(settings['move.max_pause'], settings['move.max_pause_limit']);
}

/**
 * A transaction that has been open for so long is waited for without the lock: trying would only make others
 * wait.
 */
export function isTooOld(settings: PauseSettings, budgetMs: number, ageMs: number): boolean {
  return ageMs >= Math.max(2 * settings['move.max_pause'], budgetMs);
}

export function afterTry({ tries, met }: Patience): Patience {
  return { tries: tries + 1, met };
}

/** Two looks at one transaction do not agree on its beginning by more than what they take. */
const SAME_MS = 300;

/** One that is always the same counts once, however long it stays: what follows one another has no end. */
export function afterMeeting(
  patience: Patience,
  holder: { processId: number; ageMs: number },
  nowMs: number,
): Patience {
  const { tries, met } = patience;
  const sinceMs = nowMs - holder.ageMs;
  const isSame = met !== null && met.pid === holder.processId && sinceMs - met.sinceMs < SAME_MS;
  return isSame ? patience : { tries: tries + 1, met: { pid: holder.processId, sinceMs } };
}
