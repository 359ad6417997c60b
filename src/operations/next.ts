import { messageOf, TideError, tideError } from '../core/errors.ts';
import type { WaitReason } from '../core/wait-reason.ts';
import type { OperationEvent } from './machine.ts';
import type { NothingToUndo, OperationRecord, Step, StepResult } from './operation.ts';
import { waitFor } from './waiting.ts';

/** What has been learned since the record was last written. */
export type Known =
  | { by: 'record' }
  /** What holds back a queued operation, and what its kind has against it now. */
  | { by: 'queue'; obstacle: WaitReason | null; refusal: TideError | null }
  /** What the step's `done` says. */
  | { by: 'done'; already: boolean }
  /** What its `run` or `undo` has come to. */
  | { by: 'result'; result: StepResult }
  /** Thrown by the kind: the `failures`th time in a row, 1 is the first. */
  | { by: 'error'; error: unknown; failures: number };

/** `fail`: the error is to be taken as if it had been thrown. */
export type Next =
  | { do: 'look-in-queue' | 'ask-done' | 'run' }
  | { do: 'undo'; undo: Undo }
  | { do: 'write'; event: OperationEvent }
  | { do: 'fail'; error: TideError }
  | { do: 'wait'; afterMs: number; waitsFor: WaitReason | null };

type Undo = Exclude<Step<unknown>['undo'], NothingToUndo>;
type RunnableStep = Pick<Step<unknown>, 'name' | 'noReturn' | 'undo'>;

/**
 * A step that fails for a reason that is not known to pass is tried this often before the operation is
 * undone.
 */
const ATTEMPTS_MAX = 5;
const RETRY_MS = 500;
const RETRY_MS_MAX = 10_000;
const QUEUE_MS = 200;
/** How often a record is tried to be written that the meta store did not take. */
const STORE_MS = 1_000;

/** What the runner has to do next with an operation that has not ended and is at `step`. */
export function next(record: OperationRecord, step: RunnableStep, known: Known): Next {
  if (known.by === 'error') return afterError(record, step, known);
  if (record.status === 'queued') return queued(record, known);
  return record.status === 'undoing' ? undoing(step, known) : running(record, step, known);
}

/** Behind the point of no return, and where this step may have passed it, there is only forward. */
function mayGiveUp(record: OperationRecord, step: Pick<RunnableStep, 'name'>): boolean {
  if (record.status === 'queued') return true;
  return record.status === 'running' && !record.passedNoReturn && record.began !== step.name;
}

/**
 * A record that the store did not take has not happened; whatever its step did in the world, `done` finds it.
 */
export function afterStoreError(error: TideError): Next & { do: 'wait' } {
  return wait(STORE_MS, waitFor('disk', error.message));
}

/** The meta store has no room: nobody's fault, and no reason to give anything up. */
export function isMetaFull(error: unknown): error is TideError {
  return error instanceof TideError && error.code === 'META_FULL';
}

function queued(record: OperationRecord, known: Known): Next {
  if (record.cancelRequested) return write({ kind: 'cancel' });
  if (known.by !== 'queue') return { do: 'look-in-queue' };
  if (known.obstacle !== null) return wait(QUEUE_MS, known.obstacle);
  return write(known.refusal === null ? { kind: 'admitted' } : failed(known.refusal));
}

function running(record: OperationRecord, step: RunnableStep, known: Known): Next {
  if (known.by === 'done') return afterDone(record, step, known.already);
  if (known.by !== 'result') return { do: 'ask-done' };
  const { result } = known;
  if (result.kind === 'done') return write({ kind: 'step-done', noReturn: step.noReturn === true });
  if (result.kind === 'again') return wait(result.afterMs, result.waitsFor ?? null);
  return mayGiveUp(record, step) ? write(failed(result.error)) : { do: 'fail', error: result.error };
}

function afterDone(record: OperationRecord, step: RunnableStep, already: boolean): Next {
  const hasPassed = already && step.noReturn === true;
  if (record.cancelRequested && !record.passedNoReturn && !hasPassed) return write({ kind: 'cancel' });
  // A skipped step has changed nothing, but the world may be past it because an earlier run of it was cut
  // off.
  if (already) return write({ kind: 'step-done', noReturn: hasPassed && record.began === step.name });
  const begins = step.noReturn === true && record.began !== step.name;
  return begins ? write({ kind: 'step-began', step: step.name }) : { do: 'run' };
}

function undoing(step: RunnableStep, known: Known): Next {
  if ('nothingToUndo' in step.undo) return write({ kind: 'step-undone' });
  if (known.by !== 'result') return { do: 'undo', undo: step.undo };
  const { result } = known;
  if (result.kind === 'done') return write({ kind: 'step-undone' });
  if (result.kind === 'again') return wait(result.afterMs, result.waitsFor ?? null);
  return { do: 'fail', error: result.error };
}

/**
 * An error that does not pass undoes what may be given up; an undo, and what lies behind the point of no
 * return, only repeat.
 */
function afterError(
  record: OperationRecord,
  step: RunnableStep,
  { error, failures }: Extract<Known, { by: 'error' }>,
): Next {
  if (isMetaFull(error)) return afterStoreError(error);
  const why = `${record.status === 'queued' ? 'admission' : step.name}: ${messageOf(error)}`;
  const mayEnd = mayGiveUp(record, step);
  if (mayEnd && !passes(error, failures))
    return write(failed(error instanceof TideError ? error : tideError('INTERNAL', { why })));
  if (mayEnd && record.cancelRequested) return write({ kind: 'cancel' });
  const node = error instanceof TideError && typeof error.details.node === 'number' ? error.details.node : null;
  const afterMs = Math.min(RETRY_MS * 2 ** Math.min(failures - 1, 6), RETRY_MS_MAX);
  return wait(afterMs, waitFor(node === null ? 'lock' : 'node', `${why} (try ${failures})`, node));
}

/**
 * SQLSTATEs of faults that pass: no lock in time, statement too slow, deadlock, serialization, object in use,
 * too many connections, starting or stopping (PostgreSQL manual, appendix A).
 */
const PASSING_SQLSTATES = new Set(['55P03', '57014', '40P01', '40001', '55006', '53300', '57P01', '57P02', '57P03']);

function passes(error: unknown, failures: number): boolean {
  if (error instanceof TideError) return error.retry !== 'never';
  return PASSING_SQLSTATES.has(String((error as { code?: unknown } | null)?.code)) || failures < ATTEMPTS_MAX;
}

const write = (event: OperationEvent): Next => ({ do: 'write', event });

const wait = (afterMs: number, waitsFor: WaitReason | null) => ({ do: 'wait', afterMs, waitsFor }) as const;

const failed = ({ code, message, hint }: TideError): OperationEvent => ({
  kind: 'step-failed',
  error: { code, message, hint },
});
