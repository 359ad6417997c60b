import { Histogram } from '../local/histogram.ts';

export type StatementKind = 'read' | 'insert' | 'update' | 'count' | 'transaction';

export interface Failure {
  readonly node: number;
  readonly kind: StatementKind;
  readonly sqlstate: string | null;
  readonly message: string;
  readonly at: string;
}

/** What happened in one phase of the run: a proof over a phase with hardly any traffic proves nothing. */
export interface Phase {
  readonly name: string;
  /** Nodes that have to get their share. */
  readonly nodes: readonly number[];
  statements: number;
  acknowledged: number;
  counts: number;
  readonly perNode: Map<number, number>;
}

/** Failures kept with their text; all are counted. */
const FAILURES_KEPT = 20;
const RATE_MS = 3_000;

/** Counters of the live traffic. */
export class TrafficStats {
  /** A transaction counts as one. */
  statements = 0;
  failed = 0;
  /**
   * Answers that missed rows: a count that is not the loaded number, a city or an own row that was not there.
   */
  incompleteReads = 0;
  readonly failures: Failure[] = [];
  readonly misses: Failure[] = [];
  readonly latency = new Histogram();
  readonly phases: Phase[] = [];
  #marks: { atMs: number; statements: number }[] = [];

  beginPhase(name: string, nodes: readonly number[]): void {
    this.phases.push({ name, nodes, statements: 0, acknowledged: 0, counts: 0, perNode: new Map() });
  }

  /** `ms` is null for exchanges that stay open on purpose: their length says nothing about the cluster. */
  answered(node: number, kind: StatementKind, ms: number | null): void {
    this.statements += 1;
    if (ms !== null) this.latency.add(ms);
    const phase = this.phases.at(-1);
    if (!phase) return;
    phase.statements += 1;
    phase.perNode.set(node, (phase.perNode.get(node) ?? 0) + 1);
    if (kind === 'count') phase.counts += 1;
  }

  acknowledged(): void {
    const phase = this.phases.at(-1);
    if (phase) phase.acknowledged += 1;
  }

  /** A statement that ended in an error, or with a wrong value. */
  failure(node: number, kind: StatementKind, message: string, sqlstate: string | null): void {
    this.failed += 1;
    keep(this.failures, { node, kind, sqlstate, message, at: new Date().toISOString() });
  }

  incomplete(node: number, kind: StatementKind, message: string): void {
    this.incompleteReads += 1;
    keep(this.misses, { node, kind, sqlstate: null, message, at: new Date().toISOString() });
  }

  /** Statements per second over the last moments: between the calls of the last `RATE_MS`. */
  perSecond(nowMs: number): number {
    this.#marks = [
      ...this.#marks.filter((m) => nowMs - m.atMs <= RATE_MS),
      { atMs: nowMs, statements: this.statements },
    ];
    const [first] = this.#marks;
    const elapsedMs = nowMs - (first?.atMs ?? nowMs);
    return elapsedMs === 0 ? 0 : ((this.statements - (first?.statements ?? 0)) / elapsedMs) * 1000;
  }
}

function keep(kept: Failure[], failure: Failure): void {
  if (kept.length < FAILURES_KEPT) kept.push(failure);
}
