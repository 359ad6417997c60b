import { describe, expect, test } from 'vitest';
import { tideError } from '../../../src/core/errors.ts';
import { type Known, type Next, next } from '../../../src/operations/next.ts';
import { again, DONE, giveUp, nothingToUndo, type OperationRecord } from '../../../src/operations/operation.ts';
import { waitFor } from '../../../src/operations/waiting.ts';
import { operationRecord } from '../../fakes/records.ts';

const undo = async () => DONE;
const PLAIN = { name: 'b', undo };
const NO_RETURN = { name: 'b', noReturn: true, undo: nothingToUndo('it is the point of no return') } as const;

const REFUSED = tideError('SQL_REFUSED', { why: 'no', sqlstate: '42501', statement: 'x' });
const AWAY = tideError('NODE_UNREACHABLE', { node: 3, why: 'reset' });
const FULL = tideError('META_FULL', { why: 'no room' });
const LOCKED = Object.assign(new Error('lock timeout'), { code: '55P03' });
const ODD = new Error('odd');

/** What the operation is in, always at step `b`. */
const STATES = {
  queued: { status: 'queued', step: 0 },
  running: {},
  began: { began: 'b' },
  'began before': { began: 'a' },
  passed: { began: 'a', passedNoReturn: true },
  undoing: { status: 'undoing' },
} satisfies Record<string, Partial<OperationRecord>>;
type State = keyof typeof STATES;
const ALL = Object.keys(STATES) as State[];

const inState = (state: State, cancelRequested = false) => operationRecord({ ...STATES[state], cancelRequested });
const thrown = (error: unknown, failures = 1): Known => ({ by: 'error', error, failures });
const answered = (result: Extract<Known, { by: 'result' }>['result']): Known => ({ by: 'result', result });

/** `write step-failed SQL_REFUSED`, `wait node`, `run`. */
function told(todo: Next): string {
  if (todo.do === 'wait') return `wait ${todo.waitsFor?.kind ?? ''}`.trim();
  if (todo.do !== 'write') return todo.do;
  const { event } = todo;
  if (event.kind === 'step-failed') return `write step-failed ${event.error.code}`;
  return event.kind === 'step-done' && event.noReturn ? 'write step-done, no return' : `write ${event.kind}`;
}

type Cells = Record<State, string>;
const each = (cell: string, others: Partial<Cells> = {}): Cells =>
  ({ ...Object.fromEntries(ALL.map((state) => [state, cell])), ...others }) as Cells;

/** Where it may still give up, what is in the way of that is the first; where not, the second. */
const mayGiveUp = (yes: string, no: string): Cells => each(yes, { began: no, passed: no, undoing: no });

describe('may it still give up?', () => {
  const ROWS: [string, Known, boolean, Cells][] = [
    ['an error that does not pass', thrown(REFUSED), false, mayGiveUp('write step-failed SQL_REFUSED', 'wait lock')],
    ['one that passes', thrown(AWAY), false, each('wait node')],
    ['one that passes, for the hundredth time', thrown(AWAY, 100), false, each('wait node')],
    ["a server's that passes", thrown(LOCKED, 100), false, each('wait lock')],
    ['an unknown one', thrown(ODD, 4), false, each('wait lock')],
    ['an unknown one, for the fifth time', thrown(ODD, 5), false, mayGiveUp('write step-failed INTERNAL', 'wait lock')],
    ['no room in the meta store', thrown(FULL, 100), false, each('wait disk')],
    ['an error that passes, and a cancel', thrown(AWAY), true, mayGiveUp('write cancel', 'wait node')],
    [
      'an error that does not, and a cancel',
      thrown(REFUSED),
      true,
      mayGiveUp('write step-failed SQL_REFUSED', 'wait lock'),
    ],
    ['no room, and a cancel', thrown(FULL), true, each('wait disk')],
    [
      'a step that would do harm by going on',
      answered(giveUp(REFUSED)),
      false,
      { ...mayGiveUp('write step-failed SQL_REFUSED', 'fail'), queued: 'look-in-queue' },
    ],
  ];
  const cells = ROWS.flatMap(([what, known, cancel, row]) =>
    ALL.map((state) => ({ what, known, cancel, state, outcome: row[state] })),
  );
  test.each(cells)('$what, $state: $outcome', ({ known, cancel, state, outcome }) => {
    expect(told(next(inState(state, cancel), PLAIN, known))).toBe(outcome);
  });
});

describe('a step', () => {
  const LOOK: Known = { by: 'record' };
  const done = (already: boolean): Known => ({ by: 'done', already });
  const ROWS: [string, State, boolean, Known, string, string][] = [
    // What is known; what is next of a plain step, and of one behind which there is no return.
    ['is asked first', 'running', false, LOOK, 'ask-done', 'ask-done'],
    ['is asked before a cancel', 'running', true, LOOK, 'ask-done', 'ask-done'],
    ['that is to be run', 'running', false, done(false), 'run', 'write step-began'],
    ['that has begun', 'began', false, done(false), 'run', 'run'],
    ['after another that began', 'began before', false, done(false), 'run', 'write step-began'],
    ['behind an earlier point', 'passed', false, done(false), 'run', 'write step-began'],
    ['that is so already', 'running', false, done(true), 'write step-done', 'write step-done'],
    ['that is so by its own doing', 'began', false, done(true), 'write step-done', 'write step-done, no return'],
    ['that is cancelled', 'running', true, done(false), 'write cancel', 'write cancel'],
    ['that has begun, has not passed, and is cancelled', 'began', true, done(false), 'write cancel', 'write cancel'],
    ['that is so already, and is cancelled', 'running', true, done(true), 'write cancel', 'write step-done'],
    ['that has passed, and is cancelled', 'began', true, done(true), 'write cancel', 'write step-done, no return'],
    ['behind the point, cancelled', 'passed', true, done(false), 'run', 'write step-began'],
    ['that is through', 'running', false, answered(DONE), 'write step-done', 'write step-done, no return'],
    [
      'that is through, and cancelled',
      'running',
      true,
      answered(DONE),
      'write step-done',
      'write step-done, no return',
    ],
    ['that waits', 'began', false, answered(again(5, waitFor('lag', 'x'))), 'wait lag', 'wait lag'],
    ['that waits for nothing', 'running', false, answered(again(5)), 'wait', 'wait'],
    ['is undone', 'undoing', false, LOOK, 'undo', 'write step-undone'],
    ['that is undone', 'undoing', true, answered(DONE), 'write step-undone', 'write step-undone'],
    ['whose undo waits', 'undoing', false, answered(again(5, waitFor('lag', 'x'))), 'wait lag', 'write step-undone'],
  ];
  test.each(ROWS)('%s (%s, cancel asked for: %s)', (_what, state, cancel, known, plain, noReturn) => {
    const record = inState(state, cancel);
    expect([told(next(record, PLAIN, known)), told(next(record, NO_RETURN, known))]).toEqual([plain, noReturn]);
  });
});

describe('a queued operation', () => {
  const seen = (obstacle: boolean, refusal = false): Known => ({
    by: 'queue',
    obstacle: obstacle ? waitFor('limit', 'x') : null,
    refusal: refusal ? REFUSED : null,
  });
  test.each<[string, boolean, Known, string]>([
    ['is looked at', false, { by: 'record' }, 'look-in-queue'],
    ['waits for what is in its way', false, seen(true), 'wait limit'],
    ['starts', false, seen(false), 'write admitted'],
    ['fails where its kind refuses it', false, seen(false, true), 'write step-failed SQL_REFUSED'],
    ['is cancelled at once', true, { by: 'record' }, 'write cancel'],
    ['is cancelled although nothing is in its way', true, seen(false), 'write cancel'],
  ])('%s', (_what, cancel, known, outcome) => {
    expect(told(next(inState('queued', cancel), PLAIN, known))).toBe(outcome);
  });
});

test('tries are further and further apart, up to ten seconds', () => {
  const pauses = [1, 2, 3, 6, 7, 100].map((failures) => next(inState('passed'), PLAIN, thrown(AWAY, failures)));
  expect(pauses.map((p) => p.do === 'wait' && p.afterMs)).toEqual([500, 1_000, 2_000, 10_000, 10_000, 10_000]);
  expect(pauses[1]).toMatchObject({
    waitsFor: { node: 3, text: 'b: PostgreSQL of node 3 does not answer: reset (try 2)' },
  });
});
