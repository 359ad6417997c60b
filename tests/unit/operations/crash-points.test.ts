import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { boundariesOfWrite, CrashPointStore } from '../../../src/operations/crash-points.ts';
import { OPERATION_KINDS } from '../../../src/operations/registry.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { boundariesOf, nameOf } from '../../crash/boundaries.ts';
import { allCases } from '../../crash/cases.ts';
import { titleOf } from '../../crash/play.ts';
import { SCENARIOS } from '../../crash/scenarios.ts';

test('every kind of operation is killed at its boundaries on real servers', () => {
  expect([...new Set(SCENARIOS.map((s) => s.kind))].sort()).toEqual([...OPERATION_KINDS.keys()].sort());
});

test('every boundary of every step stands in the matrix, first of all once each', () => {
  const boundaries = [...OPERATION_KINDS.keys()].flatMap((kind) => boundariesOf(kind)).map(nameOf);
  const steps = [...OPERATION_KINDS.values()].reduce((sum, kind) => sum + kind.steps.length, 0);
  expect(boundaries.filter((name) => !name.endsWith('/undone')).length).toBe(2 * steps + OPERATION_KINDS.size);
  const cases = allCases();
  const met = [...new Set(cases.map((c) => `${nameOf(c.boundary)} ${c.scenario.name}`))];
  expect(cases.slice(0, met.length).map((c) => `${nameOf(c.boundary)} ${c.scenario.name}`)).toEqual(met);
  expect(new Set(cases.map((c) => nameOf(c.boundary)))).toEqual(new Set(boundaries));
  expect(new Set(cases.map(titleOf)).size).toBe(cases.length);
});

test('every undo that does something is killed when it has done it', () => {
  const undos = [...OPERATION_KINDS.values()].flatMap(({ kind, steps }) =>
    steps
      .filter(({ undo }) => !('nothingToUndo' in undo))
      .map(({ name }) => nameOf({ kind, step: name, moment: 'undone' })),
  );
  const killed = allCases().filter(({ boundary }) => boundary.moment === 'undone');
  expect(new Set(killed.map(({ boundary }) => nameOf(boundary)))).toEqual(new Set(undos));
  expect(killed.every(({ boundary }) => boundary.ends === 'cancelled' && boundary.cancelledAt !== null)).toBe(true);
});

test('a scenario leaves out no step that its kind does not have', () => {
  const wrong = SCENARIOS.flatMap(({ kind, idle = {} }) =>
    Object.keys(idle).filter((step) => !OPERATION_KINDS.get(kind)?.steps.some((s) => s.name === step)),
  );
  expect(wrong).toEqual([]);
});

test.for([
  ['queued', 0, 'running', 0, null, 'join-node/prepare-database/before'],
  ['running', 0, 'running', 1, 'join-node/prepare-database/effect', 'join-node/link-servers/before'],
  ['running', 3, 'done', 4, 'join-node/open-node/effect', 'join-node/open-node/after'],
  ['running', 1, 'running', 1, null, null],
  ['running', 1, 'undoing', 1, null, null],
  ['undoing', 1, 'undoing', 0, 'join-node/link-servers/undone', null],
  ['undoing', 0, 'cancelled', 0, 'join-node/prepare-database/undone', null],
] as const)('%s at %i → %s at %i', ([was, step, status, next, effect, durable]) => {
  const to = { kind: 'join-node', status, step: next };
  expect(boundariesOfWrite(OPERATION_KINDS, { status: was, step }, to)).toEqual({ effect, durable });
});

test('an operation stands still at the boundary that is armed, with its record written or not, until it is let go', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'pgtide-points-'));
  const armed = join(directory, 'armed');
  const hit = join(directory, 'hit');
  const inner = new MemoryStore();
  const store = new CrashPointStore(inner, OPERATION_KINDS, directory);
  const record = { id: 7, kind: 'join-node', status: 'running', step: 0 };
  const write = (value: object) => store.txn({ when: [], write: [{ put: '/op/7', value }] });
  const stepWritten = async () => ((await inner.get('/op/7'))?.value as typeof record | undefined)?.step;
  const operationHeld = () => expect.poll(() => readOrNull(hit)).toBe('7');
  try {
    await write(record);
    writeFileSync(armed, 'join-node/prepare-database/effect');
    const first = write({ ...record, step: 1 });
    await operationHeld();
    expect(await stepWritten()).toBe(0);
    // Others go on meanwhile.
    await store.txn({ when: [], write: [{ put: '/op/8', value: { ...record, id: 8 } }] });
    rmSync(hit);
    await first;
    expect(await stepWritten()).toBe(1);
    writeFileSync(armed, 'join-node/create-tables/before');
    const second = write({ ...record, step: 2 });
    await operationHeld();
    expect(await stepWritten()).toBe(2);
    rmSync(hit);
    await second;
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a record that is refused where it was held up is not written, and what waited behind it comes first', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'pgtide-points-'));
  const inner = new MemoryStore();
  const store = new CrashPointStore(inner, OPERATION_KINDS, directory);
  const record = { id: 7, kind: 'join-node', status: 'running', step: 0 };
  const write = (value: object) => store.txn({ when: [], write: [{ put: '/op/7', value }] });
  try {
    await write(record);
    writeFileSync(join(directory, 'armed'), 'join-node/prepare-database/effect');
    const refused = write({ ...record, step: 1 }).catch((error: { code?: string }) => error.code);
    await expect.poll(() => readOrNull(join(directory, 'hit'))).toBe('7');
    writeFileSync(join(directory, 'refused'), '');
    rmSync(join(directory, 'hit'));
    expect(await refused).toBe('META_FULL');
    expect((await inner.get('/op/7'))?.value).toEqual(record);
    await write({ ...record, cancelRequested: true });
    await write({ ...record, step: 1 });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

function readOrNull(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}
