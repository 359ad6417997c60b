import { type Goal, type Move, planNext, type RunningMove } from '../../placement/plan.ts';
import type { PlanData } from '../data.ts';
import { again, DONE, type OperationRecord, type StepContext, type StepResult } from '../operation.ts';
import { waitFor } from '../waiting.ts';

const MOVE_KINDS: ReadonlySet<string> = new Set<Move['kind']>([
  'add-replica',
  'move-replica',
  'remove-replica',
  'resync-replica',
  'change-leader',
]);

/**
 * A move that failed (its target died, a disk ran full), or that somebody has cancelled, is planned anew
 * after a pause that doubles with every failure in a row: whoever cancelled it has the time to do what it
 * stood in the way of.
 */
const RETRY_MS = 1_000;
const RETRY_MS_MAX = 300_000;

/**
 * Carries out a plan by moves of its own: starts what the planner lets start beside everything that runs now,
 * and is done when there is nothing left to plan. It plans anew each time, so that a node that joins or dies
 * meanwhile is part of the same plan, not of the next. Failures of moves up to the id `forgiven` are those of
 * an earlier plan.
 */
export async function carryOut(c: StepContext<unknown, PlanData>, goal: Goal, forgiven = 0): Promise<StepResult> {
  const children = c.children();
  showProgress(c, children);
  const own = children.filter((r) => r.id > forgiven);
  showMoves(c, own, null);
  const failed = lastFailures(own);
  const pauseMs = failed ? failed.endedMs + retryMs(failed.count) - c.clock.nowMs() : 0;
  if (failed && pauseMs > 0) return again(Math.min(pauseMs, 5_000), waitFor('children', failureText(failed, pauseMs)));
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
  const begun = c.children().filter((r) => r.id > forgiven);
  showMoves(
    c,
    begun,
    next.waiting.map((w) => w.move),
  );
  const mine = running.filter((r) => r.parent === c.id).length + next.start.length;
  if (mine > 0) return again(150, waitFor('children', `${mine} moves under way, ${next.waiting.length} planned`));
  const [first] = next.waiting;
  if (first) return again(300, waitFor('limit', `${next.waiting.length} moves wait: ${first.because}`));
  const [blocked] = next.blocked;
  if (blocked) return again(1_000, waitFor('no-target', blocked.why, blocked.node));
  return DONE;
}

/** Ends the moves that were begun, and carries out the plan that takes back what they did. */
export async function carryBack(c: StepContext<unknown, PlanData>, goal: Goal): Promise<StepResult> {
  return (await endMoves(c)) ?? carryOut(c, goal, c.data.restoring);
}

/** Null once the moves that were begun before an undo have ended. */
export async function endMoves(c: StepContext<unknown, PlanData>): Promise<StepResult | null> {
  if (c.data.restoring !== undefined) return null;
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

function showProgress(c: StepContext<unknown, PlanData>, children: readonly OperationRecord[]): void {
  const planned = c.data.bytesPlanned ?? 0;
  const done = children.reduce((sum, r) => sum + (r.status === 'done' ? r.bytesTotal : r.bytesDone), 0);
  c.progress(done, Math.max(planned, done));
}

/** What the moves of this plan have cost tells what the others will. */
function showMoves(c: StepContext<unknown>, own: readonly OperationRecord[], waiting: readonly Move[] | null): void {
  const nowMs = c.clock.nowMs();
  const msOf = (r: OperationRecord) => Math.max(0, (r.endedMs ?? nowMs) - (r.startedMs ?? nowMs));
  const open = own.filter((r) => r.endedMs === null);
  const begun = own.flatMap((r) => (r.startedMs === null ? [] : [r.startedMs]));
  const seen = {
    finished: own.filter((r) => r.status === 'done').map((r) => ({ bytes: r.bytesTotal, ms: msOf(r) })),
    running: open.map((r) => ({ bytes: sizeOf(r), bytesDone: r.bytesDone, ms: msOf(r) })),
    elapsedMs: nowMs - Math.min(nowMs, ...begun),
  };
  c.moves(seen, waiting);
}

/**
 * Other operations may do part of the plan: what is left to do tells more than what our own moves have done.
 */
function showRemaining(
  c: StepContext<unknown, PlanData>,
  running: readonly OperationRecord[],
  planned: readonly Move[],
): void {
  if (c.data.bytesPlanned === undefined) return;
  const left = planned.reduce((sum, move) => sum + move.bytes, 0);
  const underWay = running.reduce((sum, r) => sum + Math.max(0, sizeOf(r) - r.bytesDone), 0);
  c.progress(c.data.bytesPlanned - left - underWay, c.data.bytesPlanned);
}

/** What a move will copy: as planned until its copy has looked. */
function sizeOf(record: OperationRecord): number {
  return record.bytesTotal > 0 ? record.bytesTotal : Number(record.input.bytes ?? 0);
}

interface Failures {
  /** The newest move that failed. */
  readonly id: number;
  readonly endedMs: number;
  readonly message: string;
  /**
   * Failures in a row, the newest included; moves that were cancelled at once, as by a failover, count as
   * one.
   */
  readonly count: number;
}

function lastFailures(children: readonly OperationRecord[]): Failures | null {
  const ended = children.filter((r) => r.endedMs !== null).sort((a, b) => b.id - a.id);
  const last = ended.findIndex((r) => r.status === 'done');
  const since = last === -1 ? ended : ended.slice(0, last);
  const [newest] = since;
  if (!newest) return null;
  const cancelledMs = since.filter((r) => r.status === 'cancelled').map((r) => r.endedMs ?? 0);
  const waves = cancelledMs.sort((a, b) => a - b).filter((ms, i, all) => ms - (all[i - 1] ?? -Infinity) > RETRY_MS);
  const count = since.length - cancelledMs.length + waves.length;
  const message = newest.error?.message ?? 'it was cancelled';
  return { id: newest.id, endedMs: newest.endedMs ?? 0, message, count };
}

/** Pause after `count` failures in a row, milliseconds. */
function retryMs(count: number): number {
  return Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** (count - 1));
}

function failureText({ id, count, message }: Failures, pauseMs: number): string {
  const seconds = Math.ceil(pauseMs / 1_000);
  return `move ${id} failed (${count} in a row), tried again in ${seconds} s: ${message}`;
}
