import { assert } from '../core/assert.ts';
import type { OperationRecord, OperationStatus } from './operation.ts';

/**
 *   queued → running ══ no return ══ done
 *      ↓        ↓ cancel, failure
 *   cancelled  undoing → cancelled | failed
 *
 * The machine is a function of the journaled record and an event. The runner does the effects and writes each
 * record before the next effect.
 */
export type OperationEvent =
  | { kind: 'admitted' }
  /** Of a step behind which there is no return: from here on it may have passed that. */
  | { kind: 'step-began'; step: string }
  | { kind: 'step-done'; noReturn: boolean }
  | { kind: 'step-failed'; error: NonNullable<OperationRecord['error']> }
  | { kind: 'cancel' }
  | { kind: 'step-undone' };

type EventKind = OperationEvent['kind'];
type Answer = (record: OperationRecord, event: never, nowMs: number) => OperationRecord;

const ignored: Answer = (record) => record;
const impossible: Answer = (record) => {
  assert(false, `operation ${record.id} in ${record.status} met an event that cannot happen there`);
};

const admit: Answer = (r, _event, nowMs) => ({ ...r, status: 'running', startedMs: r.startedMs ?? nowMs });

const stepBegan = (r: OperationRecord, event: Extract<OperationEvent, { kind: 'step-began' }>): OperationRecord => {
  assert(r.steps[r.step] === event.step, `operation ${r.id} began ${event.step} out of its turn`);
  return { ...r, began: event.step };
};

const stepDone = (r: OperationRecord, event: Extract<OperationEvent, { kind: 'step-done' }>, nowMs: number) => {
  const passedNoReturn = r.passedNoReturn || event.noReturn;
  const step = r.step + 1;
  if (step >= r.steps.length) return ended({ ...r, step, passedNoReturn }, 'done', nowMs);
  return { ...r, step, passedNoReturn };
};

const stepFailed = (r: OperationRecord, event: Extract<OperationEvent, { kind: 'step-failed' }>): OperationRecord => {
  const mayHavePassed = r.passedNoReturn || r.began === r.steps[r.step];
  assert(!mayHavePassed, `operation ${r.id} gave up behind its point of no return`);
  return { ...r, status: 'undoing', error: event.error };
};

const cancelRunning: Answer = (r) => (r.passedNoReturn ? r : { ...r, status: 'undoing', cancelRequested: true });

const stepUndone: Answer = (r, _event, nowMs) => {
  if (r.step > 0) return { ...r, step: r.step - 1 };
  return ended(r, r.error === null ? 'cancelled' : 'failed', nowMs);
};

function ended(record: OperationRecord, status: OperationStatus, nowMs: number): OperationRecord {
  return { ...record, status, endedMs: nowMs };
}

const cancelQueued: Answer = (r, _event, nowMs) => ended({ ...r, cancelRequested: true }, 'cancelled', nowMs);
const failQueued = (r: OperationRecord, event: Extract<OperationEvent, { kind: 'step-failed' }>, nowMs: number) =>
  ended({ ...r, error: event.error }, 'failed', nowMs);

const over: Record<EventKind, Answer> = {
  admitted: impossible,
  'step-began': impossible,
  'step-done': impossible,
  'step-failed': impossible,
  'step-undone': impossible,
  cancel: ignored,
};

/** Every status × event has an answer; "ignored" is one. */
const TABLE: Record<OperationStatus, Record<EventKind, Answer>> = {
  queued: {
    admitted: admit,
    cancel: cancelQueued,
    'step-failed': failQueued as Answer,
    'step-began': impossible,
    'step-done': impossible,
    'step-undone': impossible,
  },
  running: {
    admitted: ignored,
    'step-began': stepBegan as Answer,
    'step-done': stepDone as Answer,
    'step-failed': stepFailed as Answer,
    cancel: cancelRunning,
    'step-undone': impossible,
  },
  undoing: {
    admitted: impossible,
    'step-began': impossible,
    'step-done': impossible,
    'step-failed': impossible,
    cancel: ignored,
    'step-undone': stepUndone,
  },
  done: over,
  failed: over,
  cancelled: over,
};

/** The record after the event. Throws a broken invariant for an event that cannot happen in that state. */
export function advance(record: OperationRecord, event: OperationEvent, nowMs: number): OperationRecord {
  return TABLE[record.status][event.kind](record, event as never, nowMs);
}

export function hasEnded(record: Pick<OperationRecord, 'status'>): boolean {
  return record.status === 'done' || record.status === 'failed' || record.status === 'cancelled';
}
