import { expect, test } from 'vitest';
import {
  type ApplyFailure,
  type GivenUp,
  givenUpAgain,
  heldBackMs,
  lasts,
  partitionIn,
  passes,
  remedyFor,
  streamEnds,
} from '../../../src/catalog/apply-failures.ts';
import type { ClusterView } from '../../../src/catalog/model.ts';
import { defaultSettings } from '../../../src/catalog/settings.ts';
import { nodeRecord, tableRecord } from '../../fakes/records.ts';

const VIEW: ClusterView = {
  revision: 0,
  clusterId: 'test',
  startMode: 'start',
  nodes: new Map([1, 2, 3].map((id) => [id, nodeRecord(id)])),
  tables: new Map([[4, { ...tableRecord(4, 'acct', 2, [[1, 2], [2, 1], [1, 3]]), state: 'ready' as const }]]), // biome-ignore format: short
  settings: defaultSettings(),
};

const failure = (change: Partial<ApplyFailure> = {}): ApplyFailure => ({
  stream: 'tide_1_2',
  from: 1,
  to: 2,
  table: 't4_p0',
  copying: false,
  place: '745',
  message: 'new row for relation "t4_p0" violates check constraint "odd"',
  tries: 12,
  forMs: 3_000,
  agoMs: 100,
  ...change,
});

test('only pgtide’s own streams have ends', () => {
  expect(streamEnds('tide_1_2')).toEqual({ from: 1, to: 2 });
  for (const name of ['tide_1_2_next', 'mine', 'tide_1_x', 'tide_1_2\n']) expect(streamEnds(name)).toBeNull();
});

test('what fails once, or no more, does not last', () => {
  expect(lasts(failure(), 500, 0)).toBe(true);
  expect(lasts(failure({ tries: 3 }), 0, 60_000)).toBe(false);
  expect(lasts(failure({ forMs: 2_000 }), 0, 60_000)).toBe(false);
  expect(lasts(failure(), 3_000, 60_000)).toBe(false);
});

test('a sender that is not reached is news where both have been alive for a while, and it is so now', () => {
  const link = { place: '', table: null, forMs: 12_000 };
  for (const change of [
    link,
    { ...link, copying: true, message: 'table copy could not start transaction on publisher' },
  ]) {
    expect(lasts(failure(change), 500, 11_000)).toBe(true);
    expect(lasts(failure(change), 500, 9_000)).toBe(false);
    expect(lasts(failure({ ...change, forMs: 9_000 }), 500, 60_000)).toBe(false);
    expect(lasts(failure(change), 1_500, 60_000)).toBe(false);
    expect(passes(failure(change))).toBe(true);
  }
  expect(passes(failure())).toBe(false);
  expect(passes(failure({ copying: true, place: '' }))).toBe(false);
});

test('a table is a partition’s where it is named like one', () => {
  expect(partitionIn({ table: 't4_p0' })).toEqual({ tid: 4, pid: 0 });
  for (const table of [null, 'marker', 't4_p0_old', 't04_p0', 't4_px']) expect(partitionIn({ table })).toBeNull();
});

const MISSING = 'logical replication target relation "tide_data.t4_p0" is missing replicated column: "n"';

test.each([
  ['a row', failure(), ['take-out', 'renew', 'cut']],
  ['a table that does not fit', failure({ message: MISSING }), ['renew', 'renew', 'cut']],
  ['no table at all', failure({ table: null }), ['cut', 'cut', 'cut']],
  ['a table that is no partition’s', failure({ table: 'marker' }), ['cut', 'cut', 'cut']],
  ['a partition that is not there', failure({ table: 't4_p2' }), ['take-out', 'cut', 'cut']],
  ['a table that does not fit, of nobody', failure({ table: 't9_p0', message: MISSING }), ['take-out', 'cut', 'cut']],
  ['a partition that it leads itself', failure({ table: 't4_p1' }), ['none', 'none', 'none']],
  ['a copy', failure({ copying: true, place: '' }), ['none', 'none', 'none']],
  ['a sender that is not reached', failure({ place: '', table: null }), ['none', 'none', 'none']],
  [
    'a full disk',
    failure({ message: 'could not extend file "base/5/16400": No space left on device' }),
    ['none', 'none', 'none'],
  ],
] as const)('%s', (_what, of, remedies) => {
  expect([0, 1, 2].map((tried) => remedyFor(VIEW, of, tried))).toEqual(remedies);
});

test('a replica that is given up over and over is copied again after pauses that double, to five minutes', () => {
  let given: GivenUp | undefined;
  let nowMs = 1_000_000;
  const pauses: number[] = [];
  for (let n = 0; n < 8; n++) {
    given = givenUpAgain(given, 'because', nowMs);
    pauses.push(heldBackMs(given, nowMs));
    nowMs += heldBackMs(given, nowMs) + 10_000;
    expect(heldBackMs(given, nowMs)).toBe(0);
  }
  expect(pauses.map((ms) => ms / 1_000)).toEqual([0, 10, 20, 40, 80, 160, 300, 300]);
  expect(givenUpAgain(given, 'because', nowMs + 900_000).count).toBe(1);
});
