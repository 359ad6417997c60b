import type { OperationResult } from '../api/results.ts';
import { percentile } from '../local/histogram.ts';
import type { Proof } from './proof.ts';
import type { Failure, Phase, TrafficStats } from './traffic-stats.ts';

/** What `tide demo --report=FILE` writes. */
export interface DemoReport {
  cities: number;
  statements: number;
  failed: number;
  incompleteReads: number;
  acknowledged: number;
  lost: number;
  pauseMs: { p50: number; p99: number; max: number };
  bytesMoved: number;
  bytesMinimal: number;
  seconds: number;
  replicasDiffer: number;
  nodesAtEnd: number;
}

/** One thing that has to hold, and whether it does. */
export interface Verdict {
  readonly holds: boolean;
  readonly text: string;
  /** What is wrong, a line each. */
  readonly details: readonly string[];
}

/** Less than this in a phase, and the phase has proven nothing. */
const PHASE_STATEMENTS_MIN = 20;
const PHASE_ACKNOWLEDGED_MIN = 10;
const PHASE_COUNTS_MIN = 1;

/**
 * Every attempt to swing a hinge, those that backed off included: writers have waited for them just as long.
 */
export function pauseSummary(operations: readonly OperationResult[]): { p50: number; p99: number; max: number } {
  // A parent may show its children's pauses as its own.
  const byAttempt = new Map<string, number>();
  for (const { table, pid, node, purpose, at, pauseMs } of operations.flatMap((o) => o.pauses)) {
    byAttempt.set(`${table}/${pid}/${node}/${purpose}/${at}`, Math.round(pauseMs * 10) / 10);
  }
  const pauses = [...byAttempt.values()];
  return { p50: percentile(pauses, 0.5), p99: percentile(pauses, 0.99), max: percentile(pauses, 1) };
}

/** A parent's bytes are its children's: only operations without a parent are added up. */
export function movedBytes(operations: readonly OperationResult[]): number {
  return operations.filter((o) => o.parent === null).reduce((sum, o) => sum + o.bytesDone, 0);
}

export function minimalBytes(operations: readonly OperationResult[]): number {
  return operations.filter((o) => o.parent === null).reduce((sum, o) => sum + (o.plan?.bytesMinimal ?? 0), 0);
}

/** Everything that has to hold at the end; the run is a success only if all of it does. */
export function verdicts(report: DemoReport, proof: Proof, stats: TrafficStats, expectedNodes: number): Verdict[] {
  const n = (value: number) => value.toLocaleString('en-US');
  const thin = stats.phases.flatMap(thinness);
  return [
    {
      holds: report.failed === 0,
      text: `${n(report.statements)} statements through all nodes, ${n(report.failed)} failed`,
      details: stats.failures.map(failureLine),
    },
    {
      holds: report.incompleteReads === 0,
      text: `${n(report.incompleteReads)} reads that missed rows`,
      details: stats.misses.map(failureLine),
    },
    {
      holds: report.lost === 0,
      text: `${n(report.acknowledged)} acknowledged writes, ${n(report.acknowledged - report.lost)} found through every node`,
      details: [],
    },
    {
      holds: proof.wrongCities.length === 0,
      text: `${n(report.cities)} cities, their contents through every node compared with the source`,
      details: proof.wrongCities,
    },
    {
      holds: report.replicasDiffer === 0 && proof.replicasCompared > 0,
      text: `${proof.replicasCompared} followers compared with their leaders row for row, ${report.replicasDiffer} differ`,
      details: proof.differences,
    },
    {
      holds: proof.doctor.length === 0,
      text: 'nothing is left over on any node (tide doctor)',
      details: proof.doctor,
    },
    { holds: report.bytesMoved > 0, text: 'data was moved', details: [] },
    {
      holds: report.nodesAtEnd === expectedNodes,
      text: `${report.nodesAtEnd} nodes at the end`,
      details: [],
    },
    { holds: thin.length === 0, text: 'traffic ran in every phase, on every node', details: thin },
  ];
}

function failureLine({ at, node, kind, message, sqlstate }: Failure): string {
  return `${at} node ${node} ${kind}: ${message}${sqlstate ? ` (${sqlstate})` : ''}`;
}

function thinness(phase: Phase): string[] {
  const least: readonly (readonly [string, number, number])[] = [
    ['statements', phase.statements, PHASE_STATEMENTS_MIN],
    ['acknowledged writes', phase.acknowledged, PHASE_ACKNOWLEDGED_MIN],
    ['full counts', phase.counts, PHASE_COUNTS_MIN],
    ...phase.nodes.map((node) => [`statements on node ${node}`, phase.perNode.get(node) ?? 0, 1] as const),
  ];
  return least.filter(([, count, min]) => count < min).map(([what, count]) => `"${phase.name}": only ${count} ${what}`);
}
