import { beforeEach, expect, test, vi } from 'vitest';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { must } from '../../../src/core/assert.ts';
import { tideError } from '../../../src/core/errors.ts';
import { Journal } from '../../../src/operations/journal.ts';
import { DONE, nothingToUndo, operationKind } from '../../../src/operations/operation.ts';
import { Runner } from '../../../src/operations/runner.ts';
import type { RunnerPorts } from '../../../src/operations/runner-ports.ts';
import { toStored } from '../../../src/operations/stored.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';
import { operationRecord } from '../../fakes/records.ts';

/**
 * No operation is left that nobody drives: it waits and says why, or its manager ends and the next one goes
 * on with it.
 */

const NAMES = ['a', 'b', 'c'];

let clock: ManualClock;
let store: MemoryStore;
let runs: string[];
let broken: unknown[];

beforeEach(() => {
  [clock, store, runs, broken] = [new ManualClock(), new MemoryStore(), [], []];
});

/** Operations of three steps that only tell that they have run; `refuse` is asked when their turn comes. */
async function managerStarts(refuse: () => undefined = () => undefined): Promise<Runner> {
  const kind = operationKind<{ to?: string }>({
    kind: 'walk',
    subject: ({ to }) => must(to === 'nowhere' ? null : 'somewhere', 'nowhere'),
    locks: () => [],
    movesOn: () => [],
    refuse,
    steps: NAMES.map((name) => ({
      name,
      done: async () => false,
      run: async () => {
        runs.push(name);
        await clock.sleep(100);
        return DONE;
      },
      undo: nothingToUndo('it only walks'),
    })),
  });
  const ports = {
    clock,
    event: async () => {},
    log: () => {},
    view: () => ({ settings: defaultSettings() }),
    load: () => ({}),
    broken: (error: unknown) => void broken.push(error),
  } as unknown as RunnerPorts;
  const runner = new Runner(await Journal.open(store), new Map([['walk', kind]]), ports);
  runner.resume();
  return runner;
}

const seconds = (s: number) => clock.during(clock.sleep(1_000 * s));

/**
 * What is done in place of the `nth` write of a record from here on (1 is the next), and of those after it
 * while `times` last.
 */
function instead(nth: number, times: number, what: () => Promise<{ ok: boolean; revision: number }>): void {
  const txn = store.txn.bind(store);
  let written = 0;
  store.txn = (request) => {
    written += 1;
    return written >= nth && written < nth + times ? what() : txn(request);
  };
}

const somebodyElseHasWritten = async () => ({ ok: false, revision: 99 });
const noRoom = () => Promise.reject(tideError('META_FULL', { why: 'no room' }));
const badDisk = () => Promise.reject(tideError('META_UNWRITABLE', { file: 'meta', why: 'EIO' }));

test('one that stands at a step which this version does not know waits and says so; others go on', async () => {
  const far = operationRecord({ kind: 'walk', steps: [...NAMES, 'd'], step: 3, passedNoReturn: true });
  await store.txn({ when: [], write: [{ put: '/op/0000000001', value: toStored(far) }] });
  const runner = await managerStarts();
  const { id } = await runner.submit('walk', {});
  await seconds(10);
  expect(runner.get(id)?.status).toBe('done');
  expect(runner.live(1)?.waitsFor?.text).toContain('does not know the step');
  await runner.stop();
  expect([runner.get(1)?.status, broken]).toEqual(['running', []]);
});

test('one that another version has begun is taken up although the store has no room at first', async () => {
  const older = operationRecord({ kind: 'walk', steps: ['a', 'c'], step: 1 });
  await store.txn({ when: [], write: [{ put: '/op/0000000001', value: toStored(older) }] });
  instead(1, 3, noRoom);
  const runner = await managerStarts();
  await seconds(1);
  expect(runner.live(1)?.waitsFor).toMatchObject({ kind: 'disk' });
  await seconds(10);
  expect([runner.get(1)?.status, runs, broken]).toEqual(['done', ['b', 'c'], []]);
});

test.each([
  ['has no room', noRoom],
  ['fails', badDisk],
])('one that is about to start waits while the store %s', async (_what, answer) => {
  const runner = await managerStarts();
  instead(2, 5, answer);
  const { id } = await runner.submit('walk', {});
  await seconds(2);
  expect(runner.get(id)?.status).toBe('queued');
  expect(runner.live(id)?.waitsFor).toMatchObject({ kind: 'disk' });
  await seconds(20);
  expect([runner.get(id)?.status, runs, broken]).toEqual(['done', NAMES, []]);
});

test('one whose record the store does not take goes on when it does, and is not undone for that', async () => {
  const runner = await managerStarts();
  // The record that its first step is done.
  instead(3, 9, badDisk);
  const { id } = await runner.submit('walk', {});
  await seconds(30);
  expect([runner.get(id)?.status, runs.at(-1), broken]).toEqual(['done', 'c', []]);
});

test('one whose kind fails when it is asked whether it may start is tried again, and fails with that', async () => {
  const runner = await managerStarts(() => {
    throw new Error('no such table');
  });
  const { id } = await runner.submit('walk', {});
  await seconds(60);
  expect(runner.get(id)).toMatchObject({ status: 'failed', error: { code: 'INTERNAL' } });
  expect(runner.get(id)?.error?.message).toContain('admission: no such table');
  expect(broken).toEqual([]);
});

test.each([
  ['about to start', 2],
  ['at its first step', 3],
  ['at its last', 5],
])('a record that somebody else has written ends the manager: %s', async (_where, write) => {
  const runner = await managerStarts();
  const other = await runner.submit('walk', {});
  await seconds(10);
  runs = [];
  instead(write, 1, somebodyElseHasWritten);
  const { id } = await runner.submit('walk', {});
  await seconds(10);
  expect(broken).toEqual([expect.objectContaining({ message: expect.stringContaining('written by another manager') })]);
  expect(runs).toEqual(NAMES.slice(0, write - 2));
  await runner.stop();
  // The next one goes on with it.
  const next = await managerStarts();
  await seconds(10);
  expect(broken).toHaveLength(1);
  expect([next.get(other.id)?.status, next.get(id)?.status, runs.at(-1)]).toEqual(['done', 'done', 'c']);
});

test('a defect of the runner itself ends the manager once, whatever else is under way', async () => {
  const runner = await managerStarts();
  const ids = [await runner.submit('walk', {}), await runner.submit('walk', {})].map((r) => r.id);
  vi.spyOn(runner, 'kindOf').mockImplementation(() => {
    throw new TypeError('x is not a function');
  });
  await seconds(10);
  expect(broken).toEqual([expect.any(TypeError)]);
  expect(ids.map((id) => runner.get(id)?.status)).not.toContain('done');
});

test('one that its kind cannot name is refused, and the manager goes on', async () => {
  const runner = await managerStarts();
  await expect(runner.submit('walk', { to: 'nowhere' })).rejects.toThrow('nowhere is missing');
  const { id } = await runner.submit('walk', {});
  await seconds(10);
  expect([runner.get(id)?.status, broken]).toEqual(['done', []]);
});

test('a manager that is told to stop meanwhile is not broken by what comes after', async () => {
  const runner = await managerStarts();
  await runner.submit('walk', {});
  const stopped = runner.stop();
  instead(1, 99, somebodyElseHasWritten);
  await clock.during(stopped);
  expect(broken).toEqual([]);
});
