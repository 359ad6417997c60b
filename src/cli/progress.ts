import type { OperationRow } from '../api/results.ts';
import { humanBytes, humanSeconds, secondsBetween } from '../core/units.ts';

/** What an operation under way looks like: pure, the operation in, text out. */

const BAR_CELLS = 20;

/**
 * `operation 12 migrate acct 3: n1 → n4: copy, 43 %, 1.20 GiB of 2.80 GiB, 84.0 MiB/s, 19 s left; waits for
 * …`
 */
export function progressLine(op: OperationRow): string {
  if (isEnded(op)) return `${nameOf(op)}: ${ending(op)}`;
  const waits = op.waitsFor === null ? '' : `; waits for ${op.waitsFor.text}`;
  return `${nameOf(op)}: ${[phase(op), percent(op.percent), ...amounts(op)].join(', ')}${waits}`;
}

/**
 * The same for a terminal, where lines are short: what it is, a bar, and what it waits for, each on its own
 * line.
 */
export function progressLines(op: OperationRow): string[] {
  const lines = [`${nameOf(op)}: ${phase(op)}`, `  ${[bar(op.percent), ...amounts(op)].join(', ')}`];
  return op.waitsFor === null ? lines : [...lines, `  waits for ${op.waitsFor.text}`];
}

/** Differs between two states of an operation where a reader would want a new line. */
export function milestone(op: OperationRow): string {
  const { waitsFor } = op;
  // The same transaction, a moment older and with another statement, is no news.
  const waits = waitsFor?.pid ? [waitsFor.kind, waitsFor.node, waitsFor.pid] : [waitsFor?.text];
  return [op.status, op.step, ...waits].join('|');
}

/** Nothing more will happen to it. */
export function isEnded(op: OperationRow): boolean {
  return op.status === 'done' || op.status === 'failed' || op.status === 'cancelled';
}

/** Cuts a line to a terminal's width: a wrapped line cannot be overwritten. */
export function cutTo(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, Math.max(0, width - 1))}…`;
}

function nameOf(op: OperationRow): string {
  return `operation ${op.id} ${op.kind} ${op.subject}`;
}

function amounts(op: OperationRow): string[] {
  return [
    ...(op.bytesTotal > 0 ? [`${humanBytes(op.bytesDone)} of ${humanBytes(op.bytesTotal)}`] : []),
    ...(op.bytesPerSecond !== null ? [`${humanBytes(op.bytesPerSecond)}/s`] : []),
    ...(op.secondsLeft !== null ? [`${humanSeconds(op.secondsLeft)} left`] : []),
  ];
}

function phase(op: OperationRow): string {
  if (op.status === 'undoing') return op.step === null ? 'undoing' : `undoing ${op.step}`;
  return op.step ?? op.status;
}

function ending(op: OperationRow): string {
  const took = op.startedAt !== null && op.endedAt !== null ? secondsBetween(op.startedAt, op.endedAt) : null;
  const after = took === null ? '' : ` after ${humanSeconds(took)}`;
  return `${op.status}${after}${op.error === null ? '' : `: ${op.error.message}`}`;
}

function percent(value: number): string {
  return `${Math.floor(value)} %`;
}

function bar(value: number): string {
  const full = Math.min(BAR_CELLS, Math.floor((value / 100) * BAR_CELLS));
  return `[${'#'.repeat(full)}${'.'.repeat(BAR_CELLS - full)}] ${percent(value).padStart(5)}`;
}
