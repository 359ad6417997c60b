import { type Goal, type Move, planNext, type RunningMove } from '../../placement/plan.ts';
import { again, DONE, type OperationRecord, type StepContext, type StepResult } from '../operation.ts';
import { waitFor } from '../waiting.ts';

const MOVE_KINDS: ReadonlySet<string> = new Set<Move['kind']>([
  'add-replica',
  'move-replica',
  'remove-replica',
  'resync-replica',
  'change-leader',
]);

/** A move may fail (its target died); this often in a row the whole operation fails with its reason. */
const FAILURES_MAX = 5;

/**
 * Carries out a plan by moves of its own: starts what the planner lets start beside everything that runs now, and is done when there is
 * nothing left to plan. It plans anew each time, so that a node that joins or dies meanwhile is part of the same plan, not of the next.
 * Failures of moves up to the id `forgiven` are those of an earlier plan.
 */
export async function carryOut(c: StepContext<unknown>, goal: Goal, forgiven = 0): Promise<StepResult> {
  const children = c.children();
  showProgress(c, children);
  const failed = lastFailures(children.filter((r) => r.id > forgiven));
  if (failed && failed.count >= FAILURES_MAX) {
    return again(
      5_000,
      waitFor('children', `move ${failed.id} failed ${failed.count} times in a row: ${failed.message}`),
    );
  }
  const running = c.running().filter((r) => MOVE_KINDS.has(r.kind));
  // Nothing more may start: no need to plan, which takes a while in a cluster of a thousand nodes.
  if (running.length >= c.view.settings['move.concurrency']) {
    return again(150, waitFor('children', `${running.length} moves under way`));
  }
  const next = planNext(c.view, c.load, goal, running.map(asRunningMove));
  showRemaining(c, running, [...next.start, ...next.waiting.map((w) => w.move)]);
  for (const move of next.start) {
    const { kind, ...input } = move;
    await c.start(kind, input);
  }
  const mine = running.filter((r) => r.parent === c.id).length + next.start.length;
  if (mine > 0)
    return again(failed ? 1_000 : 150, waitFor('children', `${mine} moves under way, ${next.waiting.length} planned`));
  const [first] = next.waiting;
  if (first) return again(300, waitFor('limit', `${next.waiting.length} moves wait: ${first.because}`));
  const [blocked] = next.blocked;
  if (blocked && goal.kind !== 'balance') return again(1_000, waitFor('no-target', blocked.why, blocked.node));
  return DONE;
}

/** Ends the moves that were begun, and carries out the plan that takes back what they did. */
export async function carryBack(c: StepContext<unknown>, goal: Goal): Promise<StepResult> {
  return (await endMoves(c)) ?? carryOut(c, goal, c.data.restoring as number);
}

/** Null once the moves that were begun before an undo have ended. */
export async function endMoves(c: StepContext<unknown>): Promise<StepResult | null> {
  if (typeof c.data.restoring === 'number') return null;
  const stopped = await stopChildren(c);
  if (stopped.kind === 'again') return stopped;
  await c.remember({ restoring: Math.max(0, ...c.children().map((child) => child.id)) });
  return null;
}

/** Cancels what can still be cancelled and waits for the rest. */
export async function stopChildren(c: StepContext<unknown>): Promise<StepResult> {
  await c.cancelChildren();
  const left = c.children().filter((child) => child.endedMs === null);
  if (left.length === 0) return DONE;
  return again(200, waitFor('children', `${left.length} moves are ending`));
}

function asRunningMove(record: OperationRecord): RunningMove {
  const bytes = Math.max(0, record.bytesTotal - record.bytesDone);
  return { operation: record.id, move: { bytes, reason: '', ...record.input, kind: record.kind } as Move };
}

function showProgress(c: StepContext<unknown>, children: readonly OperationRecord[]): void {
  const planned = typeof c.data.bytesPlanned === 'number' ? c.data.bytesPlanned : 0;
  const done = children.reduce((sum, r) => sum + (r.status === 'done' ? r.bytesTotal : r.bytesDone), 0);
  c.progress(done, Math.max(planned, done));
}

/** Other operations may do part of the plan: what is left to do tells more than what our own moves have done. */
function showRemaining(c: StepContext<unknown>, running: readonly OperationRecord[], planned: readonly Move[]): void {
  if (typeof c.data.bytesPlanned !== 'number') return;
  const left = planned.reduce((sum, move) => sum + move.bytes, 0);
  const underWay = running.reduce((sum, r) => sum + Math.max(0, sizeOf(r) - r.bytesDone), 0);
  c.progress(c.data.bytesPlanned - left - underWay, c.data.bytesPlanned);
}

/** What a move will copy: as planned until its copy has looked. */
function sizeOf(record: OperationRecord): number {
  return record.bytesTotal > 0 ? record.bytesTotal : Number(record.input.bytes ?? 0);
}

function lastFailures(children: readonly OperationRecord[]): { id: number; count: number; message: string } | null {
  const ended = children.filter((r) => r.status === 'failed' || r.status === 'done').sort((a, b) => b.id - a.id);
  const count = ended.findIndex((r) => r.status === 'done');
  const failures = count === -1 ? ended.length : count;
  const [newest] = ended;
  return failures > 0 && newest?.error ? { id: newest.id, count: failures, message: newest.error.message } : null;
}
