import { expect, test } from 'vitest';
import { parsePid, parsePids } from '../../../src/api/pids.ts';

test.each([
  ['3', [3]],
  ['1,3,5', [1, 3, 5]],
  ['5,1', [5, 1]],
  ['1-5', [1, 2, 3, 4, 5]],
  ['7-7', [7]],
  ['0', [0]],
])('%s names partitions %j', (text, pids) => {
  expect(parsePids(text)).toEqual(pids);
});

test.each([
  ['', 'a partition id is missing'],
  ['1,', 'a partition id is missing'],
  ['1,3-5', 'a list and a range cannot be mixed'],
  ['5-1', 'the range ends (1) before it starts (5)'],
  ['1-2-3', "'1-2-3' is not a number"],
  ['-1', "'-1' is not a number"],
  ['x', "'x' is not a number"],
  ['1, 2', "' 2' is not a number"],
  ['2,2', 'partition 2 is named twice'],
  ['0-99999999', '99999999 is above 4095, the highest partition id a table can have'],
])('%s is refused', (text, why) => {
  expect(() => parsePids(text)).toThrow(`'${text}' does not name partitions: ${why}`);
});

test('one partition is not a group', () => {
  expect(parsePid('3')).toBe(3);
  expect(() => parsePid('1,2')).toThrow("'1,2' does not name partitions");
});
