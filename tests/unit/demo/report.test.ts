import { describe, expect, test } from 'vitest';
import type { OperationResult, OperationRow, PauseRow, PlanResult } from '../../../src/api/results.ts';
import type { Proof } from '../../../src/demo/proof.ts';
import { type DemoReport, minimalBytes, movedBytes, pauseSummary, verdicts } from '../../../src/demo/report.ts';
import { TrafficStats } from '../../../src/demo/traffic-stats.ts';
import { Histogram, percentile } from '../../../src/local/histogram.ts';

const pause = (pid: number, pauseMs: number, outcome: PauseRow['outcome'] = 'done'): PauseRow => ({
  table: 'cities',
  pid,
  node: 1,
  purpose: 'leader',
  outcome,
  pauseMs,
  at: `2026-01-02T03:04:05.${pid}00Z`,
});

const plan = (bytesMinimal: number): PlanResult => ({
  moves: [],
  balance: [],
  bytesMoved: 0,
  bytesMinimal,
  blocked: [],
});

const operation = (id: number, parent: number | null, changes: Partial<OperationResult>): OperationResult => ({
  id,
  parent,
  kind: 'move-replica',
  subject: '',
  status: 'done',
  step: null,
  percent: 100,
  bytesDone: 0,
  bytesTotal: 0,
  bytesPerSecond: null,
  secondsLeft: null,
  waitsFor: null,
  createdAt: '',
  startedAt: null,
  endedAt: null,
  error: null,
  steps: [],
  children: [],
  pauses: [],
  pauseMs: null,
  plan: null,
  claims: [],
  ...changes,
});

describe('figures of the report', () => {
  const children = [
    operation(2, 1, { bytesDone: 100, pauses: [pause(1, 12), pause(2, 200, 'backed-off')] }),
    operation(3, 1, { bytesDone: 50, pauses: [pause(3, 8)] }),
  ];
  const parent = operation(1, null, {
    bytesDone: 150,
    plan: plan(120),
    children: children as OperationRow[],
    pauses: children.flatMap((c) => c.pauses),
  });
  const operations = [parent, ...children];

  test('a parent and its children are counted once', () => {
    expect(movedBytes(operations)).toBe(150);
    expect(minimalBytes(operations)).toBe(120);
    expect(pauseSummary(operations)).toEqual({ p50: 12, p99: 200, max: 200 });
  });

  test('a run without any pause', () => {
    expect(pauseSummary([])).toEqual({ p50: 0, p99: 0, max: 0 });
  });
});

describe('verdicts', () => {
  const good: DemoReport = {
    cities: 10,
    statements: 100,
    failed: 0,
    incompleteReads: 0,
    acknowledged: 40,
    lost: 0,
    pauseMs: { p50: 1, p99: 2, max: 3 },
    bytesMoved: 5,
    bytesMinimal: 5,
    seconds: 60,
    replicasDiffer: 0,
    nodesAtEnd: 3,
  };
  const proof = { lost: 0, wrongCities: [], replicasCompared: 24, replicasDiffer: 0, differences: [], doctor: [] };
  const busy = () => {
    const stats = new TrafficStats();
    stats.beginPhase('scale out', [1, 2]);
    for (let i = 0; i < 50; i++) stats.answered((i % 2) + 1, i === 0 ? 'count' : 'update', 1);
    for (let i = 0; i < 20; i++) stats.acknowledged();
    return stats;
  };
  const broken = (changes: Partial<DemoReport>, proven: Proof = proof, stats = busy()) =>
    verdicts({ ...good, ...changes }, proven, stats, 3)
      .filter((v) => !v.holds)
      .map((v) => [v.text, ...v.details].join(': '));

  test('all hold', () => {
    expect(broken({})).toEqual([]);
  });

  test.each([
    [{ failed: 1 }, '100 statements through all nodes, 1 failed'],
    [{ incompleteReads: 1 }, '1 reads that missed rows'],
    [{ lost: 1 }, '40 acknowledged writes, 39 found through every node'],
    [{ replicasDiffer: 1 }, '24 followers compared with their leaders row for row, 1 differ'],
    [{ bytesMoved: 0 }, 'data was moved'],
    [{ nodesAtEnd: 4 }, '4 nodes at the end'],
  ])('%j', (changes, text) => {
    expect(broken(changes)).toEqual([text]);
  });

  test('a comparison of nothing proves nothing', () => {
    expect(broken({}, { ...proof, replicasCompared: 0 })).toHaveLength(1);
    expect(broken({}, { ...proof, doctor: ['node 1: slot x: nobody owns it'] })).toHaveLength(1);
  });

  test('a phase without traffic proves nothing', () => {
    const stats = busy();
    stats.beginPhase('four nodes', [1, 4]);
    stats.answered(1, 'read', 1);
    expect(broken({}, proof, stats)).toEqual([
      'traffic ran in every phase, on every node: "four nodes": only 1 statements: "four nodes": only 0 acknowledged writes: "four nodes": only 0 full counts: "four nodes": only 0 statements on node 4',
    ]);
  });
});

test('percentiles', () => {
  const histogram = new Histogram();
  for (let ms = 1; ms <= 1000; ms++) histogram.add(ms);
  expect(histogram.percentileMs(0.5) / 500).toBeCloseTo(1, 1);
  expect(histogram.percentileMs(1)).toBe(1000);
  expect(new Histogram().percentileMs(0.99)).toBe(0);
  expect([percentile([3, 1, 2], 0.5), percentile([], 0.5), percentile([5], 0)]).toEqual([2, 0, 5]);
});
