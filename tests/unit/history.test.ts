import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Epoch, type Operation, whatIsWrongWith } from '../fault/support/history.ts';

/**
 * The checker of the fault tests, on histories that are made up: it has to find what is planted, and nothing
 * in a good one.
 */

const LED_BY_1: Epoch[] = [{ pid: 0, epoch: 1, leader: 1 }];
const UNKNOWN = { endedMs: Number.POSITIVE_INFINITY, outcome: 'unknown' } as const;

function operation(
  kind: Operation['kind'],
  value: number,
  span: readonly [number, number],
  more: Partial<Operation> = {},
) {
  const [invokedMs, endedMs] = span;
  const fixed = {
    kind,
    value,
    invokedMs,
    endedMs,
    key: 7,
    pid: 0,
    node: 1,
    local: true,
    by: 1,
    items: [],
    outcome: 'ok',
  } as const;
  return { ...fixed, ...more };
}
const write = (value: number, from: number, to: number, more: Partial<Operation> = {}) =>
  operation('write', value, [from, to], more);
const append = (value: number, from: number, to: number, more: Partial<Operation> = {}) =>
  operation('append', value, [from, to], more);
/** Of the register, and of the list where that is given. */
const read = (value: number, from: number, to: number, items: number[] = []) =>
  operation('read', value, [from, to], { items, node: 2 });

const faults = (...ops: Operation[]) => whatIsWrongWith(ops, LED_BY_1);

test('a good history has nothing wrong with it', () => {
  expect(faults(read(0, 1, 2), write(5, 3, 6), read(0, 4, 5), read(5, 5, 7), write(6, 8, 9), read(6, 10, 11))).toEqual(
    [],
  );
  expect(
    faults(append(1, 1, 2), append(2, 1, 3), read(0, 4, 5, [2, 1]), append(3, 6, 7), read(0, 8, 9, [2, 1, 3])),
  ).toEqual([]);
});

test('concurrent writes may come in either order, and readers in between see it', () => {
  expect(faults(write(5, 1, 10), write(6, 2, 9), read(6, 3, 4), read(5, 5, 6), read(5, 11, 12))).toEqual([]);
  expect(faults(write(5, 1, 10), write(6, 2, 9), read(6, 3, 4), read(5, 5, 6), read(6, 7, 8))).toHaveLength(1);
});

test('an acknowledged write that is overwritten by nobody and gone', () => {
  expect(faults(write(5, 1, 2), read(0, 3, 4))).toHaveLength(1);
  expect(faults(write(5, 1, 2), write(6, 3, 4), read(5, 5, 6))).toHaveLength(1);
});

test('a stale read, after somebody has seen the newer value', () => {
  const newer = write(6, 3, 20);
  expect(faults(write(5, 1, 2), newer, read(6, 5, 6), read(5, 7, 8))).toEqual([
    'key 7: 6 was the value between 5 and 6 ms, and 5 before and after: from 2 to 7 ms',
  ]);
  expect(faults(write(5, 1, 2), newer, read(5, 5, 6), read(6, 7, 8))).toEqual([]);
});

test('a value that nobody wrote, whose write failed, or that is read before it was written', () => {
  expect(faults(read(9, 1, 2))).toHaveLength(1);
  expect(faults(write(9, 1, 2, { outcome: 'fail' }), read(9, 3, 4))).toHaveLength(1);
  expect(faults(write(9, 5, 6), read(9, 1, 2)).length).toBeGreaterThan(0);
});

test('a write of unknown outcome has happened once, at any later time, or never', () => {
  expect(faults(write(5, 1, 2), write(6, 3, 4, UNKNOWN), read(5, 9, 10))).toEqual([]);
  expect(faults(write(5, 1, 2), write(6, 3, 4, UNKNOWN), read(5, 9, 10), read(6, 11, 12))).toEqual([]);
  expect(faults(write(5, 1, 2), write(6, 3, 4, UNKNOWN), read(6, 9, 10), read(5, 11, 12))).toHaveLength(1);
});

test('an acknowledged append that is lost, one that is there twice, one from nowhere', () => {
  expect(faults(append(1, 1, 2), read(0, 3, 4, []))).toEqual([expect.stringContaining('lacks 1')]);
  expect(faults(append(1, 1, 2), read(0, 3, 4, [1, 1]))).toEqual([expect.stringContaining('twice')]);
  expect(faults(read(0, 3, 4, [8]))).toEqual([expect.stringContaining('has 8')]);
  expect(faults(append(8, 1, 2, { outcome: 'fail' }), read(0, 3, 4, [8]))).toEqual([expect.stringContaining('has 8')]);
  expect(faults(append(1, 1, 2, UNKNOWN), read(0, 3, 4, []))).toEqual([]);
});

test('appends in an order that time does not allow, and a list that changes its past', () => {
  expect(faults(append(1, 1, 2), append(2, 3, 4), read(0, 5, 6, [2, 1]))).toEqual([
    expect.stringContaining('1 comes after 2'),
  ]);
  expect(faults(append(1, 1, 4), append(2, 1, 4), read(0, 5, 6, [2, 1]), read(0, 7, 8, [1, 2]))).toEqual([
    expect.stringContaining('does not begin as'),
  ]);
});

test('two nodes that acknowledge in one epoch, and a leader that goes on after its time', () => {
  const epochs: Epoch[] = [...LED_BY_1, { pid: 0, epoch: 2, leader: 3 }];
  const at = (node: number) => ({ node, local: true });
  const good = [append(1, 1, 2, at(1)), append(2, 3, 4, at(3)), append(3, 5, 6, at(3))];
  expect(whatIsWrongWith(good, epochs)).toEqual([]);
  expect(whatIsWrongWith([...good, append(4, 7, 8, at(1))], epochs)).toEqual([
    'partition 0: node 1 acknowledged 4 at 8 ms, after node 3 had done so in epoch 2',
  ]);
  // It may have come first.
  expect(whatIsWrongWith([...good, append(4, 1, 8, at(1))], epochs)).toEqual([]);
  expect(whatIsWrongWith([...good, append(4, 7, 8, { node: 1, local: false })], epochs)).toEqual([]);
  expect(whatIsWrongWith([...good, append(4, 7, 8, at(1))], [...epochs, { pid: 0, epoch: 3, leader: 1 }])).toEqual([]);
  expect(whatIsWrongWith([append(1, 1, 2, at(5))], epochs)).toEqual([expect.stringContaining('never led')]);
});

test('keys and partitions are apart', () => {
  expect(faults(write(5, 1, 2), read(5, 3, 4), operation('read', 0, [5, 6], { key: 8 }))).toEqual([]);
});

/** By trying: the operations in every order that time allows. */
function hasOrder(ops: readonly Operation[], value: number): boolean {
  const due = ops.filter((o) => o.endedMs !== Number.POSITIVE_INFINITY);
  if (due.length === 0) return true;
  const firstEndMs = Math.min(...ops.map((o) => o.endedMs));
  return ops.some((o) => {
    if (o.invokedMs > firstEndMs || (o.kind === 'read' && o.value !== value)) return false;
    return hasOrder(
      ops.filter((other) => other !== o),
      o.kind === 'write' ? o.value : value,
    );
  });
}

test('of registers it says what a search through all orders says', () => {
  const span = fc.tuple(fc.nat(30), fc.integer({ min: 1, max: 12 }));
  const made = fc.array(fc.record({ span, reads: fc.option(fc.nat(4)), known: fc.nat(4) }), {
    minLength: 2,
    maxLength: 7,
  });
  let wrong = 0;
  let right = 0;
  fc.assert(
    fc.property(made, (drawn) => {
      const writes = drawn.filter((d) => d.reads === null).length;
      // Times that no two operations share.
      const ops = drawn.map(({ span: [at, lasts], reads, known }, i): Operation => {
        const [from, to] = [at * 8 + i, (at + lasts) * 8 + i];
        if (reads !== null) return read(reads % (writes + 1), from, to);
        const value = 1 + drawn.slice(0, i).filter((d) => d.reads === null).length;
        return write(value, from, to, known === 0 ? UNKNOWN : {});
      });
      const possible = hasOrder(ops, 0);
      if (possible) right += 1;
      else wrong += 1;
      expect(faults(...ops).length === 0).toBe(possible);
    }),
    { numRuns: 3_000, seed: 20_261_122 },
  );
  expect(Math.min(wrong, right)).toBeGreaterThan(300);
});
