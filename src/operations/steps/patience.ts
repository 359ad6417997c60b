import type { NodeId } from '../../catalog/model.ts';
import { partitionKey } from '../../catalog/view.ts';
import type { HingeData } from '../data.ts';
import { again, type StepContext, type StepResult } from '../operation.ts';
import { afterMeeting, afterTry, FRESH, isTooOld, type Patience, pauseBudget, pauseLimit } from '../pause-budget.ts';
import type { Blocker, PartitionRef } from '../ports.ts';
import { waitFor, waitForTransaction } from '../waiting.ts';

/**
 * The hinge that a step is to swing. What was tried in vain there is remembered, and forgotten with the next
 * place.
 */
export interface Place extends PartitionRef {
  readonly node: NodeId;
  /** The step, where an operation swings the same hinge more than once. */
  readonly step: string;
}

const BACKOFF_MS = 60;
const BACKOFF_MS_MAX = 3_000;
const LOOK_AGAIN_MS = 200;

const keyOf = ({ step, node, tid, pid }: Place) => `${step} ${node} ${partitionKey(tid, pid)}`;

function patienceAt(c: StepContext<unknown, HingeData>, place: Place): Patience {
  const kept = c.data.patience;
  return kept?.at === keyOf(place) ? kept : FRESH;
}

/** How long the next try may hold the partition up, milliseconds. */
export function budgetAt(c: StepContext<unknown, HingeData>, place: Place): number {
  return pauseBudget(c.view.settings, patienceAt(c, place));
}

/**
 * Waits, without the lock, for a transaction that will not end within the budget; null where there is none.
 */
export async function oldHolder(
  c: StepContext<unknown, HingeData>,
  place: Place,
  why: string,
): Promise<StepResult | null> {
  const [oldest] = await c.plane.sessions.lockHolders(place.node, place);
  if (!oldest || !isTooOld(c.view.settings, budgetAt(c, place), oldest.ageMs)) return null;
  const before = patienceAt(c, place);
  const after = afterMeeting(before, oldest, c.clock.nowMs());
  await keep(c, place, before, after);
  const text = streamOf(c, after, oldest);
  return again(
    LOOK_AGAIN_MS,
    text ? waitFor('lock', text, place.node) : waitForTransaction(c.view.settings, place.node, oldest, why),
  );
}

/** Waits longer with every failed try, and never in step with anybody else. */
export async function backOff(
  c: StepContext<unknown, HingeData>,
  place: Place,
  kind: 'lag' | 'lock',
): Promise<StepResult> {
  const before = patienceAt(c, place);
  const after = afterTry(before);
  await keep(c, place, before, after);
  const ms = Math.min(BACKOFF_MS * 2 ** Math.min(before.tries, 8), BACKOFF_MS_MAX) * (0.5 + c.random());
  const why = kind === 'lag' ? 'a follower did not catch up in time' : 'the lock was not free in time';
  const grown = budgetAt(c, place) > c.view.settings['move.max_pause'] ? `; ${mayTake(c, after)}` : '';
  return again(ms, waitFor(kind, `backed off ${after.tries} times: ${why}; tries again${grown}`, place.node));
}

/**
 * A follower that would catch up within a longer pause counts like a try: as far behind as that it may stay
 * for ever.
 */
export async function nearlyCaughtUp(c: StepContext<unknown, HingeData>, place: Place): Promise<void> {
  const before = patienceAt(c, place);
  await keep(c, place, before, afterTry(before));
}

async function keep(
  c: StepContext<unknown, HingeData>,
  place: Place,
  before: Patience,
  after: Patience,
): Promise<void> {
  if (after === before) return;
  await c.remember({ patience: { at: keyOf(place), ...after } });
  const budgetMs = pauseBudget(c.view.settings, after);
  if (budgetMs === pauseBudget(c.view.settings, before)) return;
  const text = `${partitionKey(place.tid, place.pid)}: ${after.tries} tries to turn its hinge on node ${place.node} came to nothing; ${mayTake(c, after)}`;
  await c.event('pause-grown', text, place.node);
}

function mayTake(c: StepContext<unknown, HingeData>, patience: Patience): string {
  const { settings } = c.view;
  return `the next may hold the partition up for ${pauseBudget(settings, patience)} ms, of ${pauseLimit(settings)} ms at most (move.max_pause_limit)`;
}

/** Null where it is one transaction that is waited for, which is named. */
function streamOf(c: StepContext<unknown, HingeData>, { tries }: Patience, { ageMs }: Blocker): string | null {
  if (tries < 2 || ageMs > pauseLimit(c.view.settings)) return null;
  return `transactions of ${Math.round(ageMs)} ms and more follow one another without a gap: the last ${tries} tries met one; ${mayTake(c, { tries, met: null })}`;
}
