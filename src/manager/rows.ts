import type {
  MoveRow,
  OperationResult,
  OperationRow,
  PauseOfOperationRow,
  PauseRow,
  PauseSummary,
  PlanResult,
} from '../api/results.ts';
import type { ClusterView } from '../catalog/model.ts';
import { tableName } from '../catalog/view.ts';
import { isoTime } from '../core/clock.ts';
import { hasEnded } from '../operations/machine.ts';
import type { OperationRecord, PauseRecord } from '../operations/operation.ts';
import type { Live } from '../operations/progress.ts';
import type { Runner } from '../operations/runner.ts';
import type { Plan } from '../placement/plan.ts';

/** From records to what the API shows. */

const nameOf = (view: ClusterView, tid: number) => {
  const table = view.tables.get(tid);
  return table ? tableName(table) : `t${tid}`;
};

export function planResult(view: ClusterView, plan: Plan): PlanResult {
  const before = new Map(plan.before.nodes.map((n) => [n.node, n]));
  const nodes = new Set([...plan.before.nodes, ...plan.after.nodes].map((n) => n.node));
  const after = new Map(plan.after.nodes.map((n) => [n.node, n]));
  return {
    moves: plan.moves.map(
      (m): MoveRow => ({
        kind: m.kind,
        table: nameOf(view, m.tid),
        pid: m.pid,
        from: 'from' in m ? m.from : null,
        to: 'to' in m ? m.to : null,
        bytes: m.bytes,
        reason: m.reason,
      }),
    ),
    balance: [...nodes]
      .sort((a, b) => a - b)
      .map((node) => ({
        node,
        replicasBefore: before.get(node)?.replicas ?? 0,
        replicasAfter: after.get(node)?.replicas ?? 0,
        leadersBefore: before.get(node)?.leaders ?? 0,
        leadersAfter: after.get(node)?.leaders ?? 0,
        bytesBefore: before.get(node)?.bytes ?? 0,
        bytesAfter: after.get(node)?.bytes ?? 0,
      })),
    bytesMoved: plan.bytesMoved,
    bytesMinimal: plan.bytesMinimal,
    blocked: plan.blocked.map((b) => ({ table: nameOf(view, b.tid), pid: b.pid, node: b.node, why: b.why })),
  };
}

export function operationRow(runner: Runner, record: OperationRecord, nowMs: number): OperationRow {
  const live = runner.live(record.id);
  const steps = runner.kindOf(record).steps;
  const bytesDone = Math.max(record.bytesDone, live?.bytesDone ?? 0);
  const bytesTotal = Math.max(record.bytesTotal, live?.bytesTotal ?? 0, bytesDone);
  const speed = hasEnded(record) ? null : rate(live, nowMs);
  const isPlanned = live?.estimate || record.percent !== undefined || record.data.bytesPlanned !== undefined;
  return {
    id: record.id,
    parent: record.parent,
    kind: record.kind,
    subject: record.subject,
    status: record.status,
    step: hasEnded(record) ? null : (steps[record.step]?.name ?? null),
    percent: isPlanned
      ? plannedPercent(record, steps.length, live)
      : percentOf(record, steps.length, bytesDone, bytesTotal),
    bytesDone,
    bytesTotal,
    bytesPerSecond: speed,
    secondsLeft: isPlanned ? (live?.estimate?.secondsLeft ?? null) : secondsOf(bytesTotal - bytesDone, speed),
    waitsFor: live?.waitsFor ?? null,
    createdAt: isoTime(record.createdMs),
    startedAt: record.startedMs === null ? null : isoTime(record.startedMs),
    endedAt: record.endedMs === null ? null : isoTime(record.endedMs),
    error: record.error,
  };
}

function rate(live: Live | undefined, nowMs: number): number | null {
  if (!live?.since || nowMs <= live.since.ms) return null;
  return Math.round(((live.bytesDone - live.since.bytes) * 1000) / (nowMs - live.since.ms));
}

/** Null where all is copied: what is left to do then takes its time, too, and no rate tells how much. */
function secondsOf(bytesLeft: number, speed: number | null): number | null {
  return bytesLeft <= 0 || speed === null || speed <= 0 ? null : Math.ceil(bytesLeft / speed);
}

/**
 * Of an operation that moves by a plan: what has been journaled of it, so that it never goes backwards, under
 * whichever manager; of one that is being undone how far that has come.
 */
function plannedPercent(record: OperationRecord, steps: number, live: Live | undefined): number {
  if (record.status === 'done') return 100;
  if (record.status === 'undoing' && live?.estimate) return live.estimate.percent;
  const passed = record.data.bytesPlanned !== undefined ? 0 : Math.floor((100 * record.step) / steps);
  return Math.min(99, Math.max(passed, record.percent ?? 0));
}

/** Steps, the copying one in proportion to its bytes. */
function percentOf(record: OperationRecord, steps: number, bytesDone: number, bytesTotal: number): number {
  if (record.status === 'done') return 100;
  const share = bytesTotal === 0 ? 0 : bytesDone / bytesTotal;
  const copied = Math.min(record.step, steps) / steps;
  return Math.min(99, Math.floor(Math.max(copied, share * 0.6) * 100));
}

export function operationResult(
  runner: Runner,
  view: ClusterView,
  record: OperationRecord,
  nowMs: number,
): OperationResult {
  const children = runner.all().filter((r) => r.parent === record.id);
  const own = [record, ...children];
  const pauses = own.flatMap((r) => r.pauses).map((p) => pauseRow(view, p));
  const { plan } = record.data;
  return {
    ...operationRow(runner, record, nowMs),
    steps: runner.kindOf(record).steps.map((step, index) => ({
      name: step.name,
      noReturn: step.noReturn === true,
      status: stepStatus(record, index),
    })),
    children: children.map((c) => operationRow(runner, c, nowMs)),
    pauses,
    pauseMs: summarize(pauses.map((p) => p.pauseMs)),
    plan: plan ? planResult(view, plan) : null,
    claims: record.claims.map(({ kind, node, name }) => ({ kind, node, name })),
  };
}

/** Of all operations that are kept, in the order of time. */
export function pauseRows(runner: Runner, view: ClusterView): PauseOfOperationRow[] {
  const pauses = runner.all().flatMap(({ id, pauses }) => pauses.map((pause) => ({ id, pause })));
  return pauses
    .sort((a, b) => a.pause.atMs - b.pause.atMs)
    .map(({ id, pause }) => ({ operation: id, ...pauseRow(view, pause) }));
}

function stepStatus(record: OperationRecord, index: number): OperationResult['steps'][number]['status'] {
  if (record.status === 'done') return 'done';
  if (record.status === 'cancelled' || record.status === 'failed')
    return record.startedMs === null ? 'pending' : 'undone';
  if (record.status === 'undoing') return index > record.step ? 'undone' : index === record.step ? 'running' : 'done';
  return index < record.step ? 'done' : index === record.step && record.status === 'running' ? 'running' : 'pending';
}

function pauseRow(view: ClusterView, pause: PauseRecord): PauseRow {
  const { pid, node, purpose, outcome } = pause;
  return {
    table: nameOf(view, pause.tid),
    pid,
    node,
    purpose,
    outcome,
    pauseMs: Math.round(pause.pauseMs * 10) / 10,
    at: isoTime(pause.atMs),
  };
}

/** Nearest-rank percentiles; null where nothing was paused. */
function summarize(pausesMs: readonly number[]): PauseSummary | null {
  if (pausesMs.length === 0) return null;
  const sorted = [...pausesMs].sort((a, b) => a - b);
  const at = (percent: number) => sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? 0;
  return { count: sorted.length, p50: at(50), p99: at(99), max: sorted.at(-1) ?? 0 };
}
