import { expect, test } from 'vitest';
import { advance, hasEnded, type OperationEvent } from '../../../src/operations/machine.ts';
import type { OperationRecord, OperationStatus } from '../../../src/operations/operation.ts';
import { operationRecord } from '../../fakes/records.ts';

const NOW_MS = 5_000;
const ERROR = { code: 'NO_TARGET', message: 'nowhere to go', hint: 'start a node' };

const record = (status: OperationStatus, more: Partial<OperationRecord> = {}) => operationRecord({ ...more, status });

const EVENTS: Record<OperationEvent['kind'], OperationEvent> = {
  admitted: { kind: 'admitted' },
  'step-began': { kind: 'step-began', step: 'b' },
  'step-done': { kind: 'step-done', noReturn: false },
  'step-failed': { kind: 'step-failed', error: ERROR },
  cancel: { kind: 'cancel' },
  'step-undone': { kind: 'step-undone' },
};

type Outcome = OperationStatus | 'ignored' | 'impossible';
const never: Record<OperationEvent['kind'], Outcome> = {
  admitted: 'impossible',
  'step-began': 'impossible',
  'step-done': 'impossible',
  'step-failed': 'impossible',
  cancel: 'ignored',
  'step-undone': 'impossible',
};

/** Every status × event, in the middle of the steps and before the point of no return. */
const TABLE: Record<OperationStatus, Record<OperationEvent['kind'], Outcome>> = {
  queued: {
    admitted: 'running',
    'step-began': 'impossible',
    'step-done': 'impossible',
    'step-failed': 'failed',
    cancel: 'cancelled',
    'step-undone': 'impossible',
  },
  running: {
    admitted: 'ignored',
    'step-began': 'running',
    'step-done': 'running',
    'step-failed': 'undoing',
    cancel: 'undoing',
    'step-undone': 'impossible',
  },
  undoing: {
    admitted: 'impossible',
    'step-began': 'impossible',
    'step-done': 'impossible',
    'step-failed': 'impossible',
    cancel: 'ignored',
    'step-undone': 'undoing',
  },
  done: never,
  failed: never,
  cancelled: never,
};

const STATUSES = Object.keys(TABLE) as OperationStatus[];
const cells = STATUSES.flatMap((status) =>
  Object.values(EVENTS).map((event) => ({ status, event, outcome: TABLE[status][event.kind] })),
);

test.each(cells)('$status × $event.kind: $outcome', ({ status, event, outcome }) => {
  const before = record(status);
  if (outcome === 'impossible') return expect(() => advance(before, event, NOW_MS)).toThrow('broken invariant');
  const after = advance(before, event, NOW_MS);
  if (outcome === 'ignored') return expect(after).toBe(before);
  expect(after.status).toBe(outcome);
  expect(after.endedMs).toBe(hasEnded(after) ? NOW_MS : null);
});

test('an operation starts once: a restarted manager keeps the time', () => {
  expect(advance(record('queued'), EVENTS.admitted, NOW_MS).startedMs).toBe(NOW_MS);
  expect(advance(record('queued', { startedMs: 3_000 }), EVENTS.admitted, NOW_MS).startedMs).toBe(3_000);
});

test('steps are counted, and the last one ends it', () => {
  expect(advance(record('running'), EVENTS['step-done'], NOW_MS)).toMatchObject({ step: 2, status: 'running' });
  const last = advance(record('running', { step: 4 }), EVENTS['step-done'], NOW_MS);
  expect(last).toMatchObject({ step: 5, status: 'done', endedMs: NOW_MS });
});

test('behind the point of no return a cancel is ignored, and giving up is a defect', () => {
  const passed = advance(record('running'), { kind: 'step-done', noReturn: true }, NOW_MS);
  expect(passed.passedNoReturn).toBe(true);
  expect(advance(passed, EVENTS['step-done'], NOW_MS).passedNoReturn).toBe(true);
  expect(advance(passed, EVENTS.cancel, NOW_MS)).toBe(passed);
  expect(() => advance(passed, EVENTS['step-failed'], NOW_MS)).toThrow('point of no return');
});

test('a step that may have passed the point of no return is noted by its name, and cannot be given up any more', () => {
  const began = advance(record('running'), EVENTS['step-began'], NOW_MS);
  expect(began).toMatchObject({ began: 'b', step: 1, passedNoReturn: false });
  expect(() => advance(began, EVENTS['step-failed'], NOW_MS)).toThrow('point of no return');
  expect(advance(began, EVENTS['step-done'], NOW_MS)).toMatchObject({ began: 'b', step: 2, passedNoReturn: false });
  // It was asked, and has not passed it.
  expect(advance(began, EVENTS.cancel, NOW_MS).status).toBe('undoing');
  expect(() => advance(record('running'), { kind: 'step-began', step: 'c' }, NOW_MS)).toThrow('out of its turn');
});

test('it is undone step by step, and ends as what began the undoing', () => {
  const cancelled = advance(record('running'), EVENTS.cancel, NOW_MS);
  expect(cancelled).toMatchObject({ status: 'undoing', cancelRequested: true, step: 1 });
  const first = advance(cancelled, EVENTS['step-undone'], NOW_MS);
  expect(first).toMatchObject({ status: 'undoing', step: 0, endedMs: null });
  expect(advance(first, EVENTS['step-undone'], NOW_MS)).toMatchObject({ status: 'cancelled', endedMs: NOW_MS });
  const failed = advance(record('running', { step: 0 }), EVENTS['step-failed'], NOW_MS);
  expect(advance(failed, EVENTS['step-undone'], NOW_MS)).toMatchObject({ status: 'failed', error: ERROR });
});
