import type { MoveRow, OperationRow, PlanResult, StartedResult } from '../api/results.ts';
import { tideError } from '../core/errors.ts';
import { humanBytes } from '../core/units.ts';
import { type Column, columns } from './output.ts';
import type { Session } from './session.ts';
import { warnOfBlocked } from './shortages.ts';
import { waitForOperations } from './wait.ts';

/** What commands that start operations have in common: the plan of a dry run, the wait, the ending. */

export const operationColumns: Column<OperationRow>[] = [
  ...columns<OperationRow>('id', 'kind', 'subject', 'status', 'step', 'percent:percent'),
  ...columns<OperationRow>('bytesDone:bytes', 'bytesTotal:bytes', 'bytesPerSecond:bytesPerSecond'),
  ...columns<OperationRow>('secondsLeft:seconds'),
  { name: 'waits_for', value: (op) => op.waitsFor?.text ?? null },
];

const endedColumns = columns<OperationRow>('id', 'kind', 'subject', 'status', 'bytesDone:bytes', 'endedAt:time');

/**
 * Follows started operations to their end (`wait` all) or shows them as they are (none), and prints them.
 * Throws OP_NOT_DONE where one does not end as `wanted`: who asked for a cancel wants it cancelled.
 */
export async function finishWork(
  session: Session,
  ids: readonly number[],
  wait: 'all' | 'none',
  wanted: 'done' | 'cancelled' = 'done',
): Promise<void> {
  if (wait === 'none') {
    const rows = await Promise.all(ids.map((id) => session.call({ do: 'op-show', id })));
    session.show<OperationRow>(rows, operationColumns);
    return;
  }
  const ops = await waitForOperations(session, ids);
  session.show<OperationRow>(ops, endedColumns);
  requireEnded(ops, wanted);
}

/** As `finishWork`, for the commands that can be a dry run and that can find nothing to do. */
export async function finishStarted(
  session: Session,
  started: StartedResult,
  wait: 'all' | 'none',
  wanted: 'done' | 'cancelled' = 'done',
): Promise<void> {
  if (started.operation !== null) await finishWork(session, [started.operation], wait, wanted);
  else showNoOperation(session, started);
}

/**
 * As `finishStarted`, for the verbs that end with a word: gives the exit status. `look` is asked once it is
 * done, and may throw.
 */
export async function finishWithOk(
  session: Session,
  started: StartedResult,
  wait: 'all' | 'none',
  look: () => Promise<void> = async () => {},
): Promise<number> {
  await finishStarted(session, started, wait);
  if (wait === 'all') await look();
  session.say('ok');
  return 0;
}

/** A dry run shows its plan; without a plan there was nothing to do. */
export function showNoOperation(session: Session, started: StartedResult): void {
  if (started.plan !== null) showPlan(session, started.plan, started);
  else if (session.format === 'json') session.show([started], [], started);
  else session.say('nothing to do');
}

/** Throws OP_NOT_DONE for the first operation that did not reach `done`. */
export function requireDone(ops: readonly OperationRow[]): void {
  requireEnded(ops, 'done');
}

function requireEnded(ops: readonly OperationRow[], wanted: 'done' | 'cancelled'): void {
  const bad = ops.find((op) => op.status !== wanted);
  if (!bad) return;
  throw tideError('OP_NOT_DONE', {
    id: bad.id,
    subject: bad.subject,
    status: SAID_AS[bad.status] ?? bad.status,
    why: bad.error?.message ?? '',
    next: bad.error?.hint ?? `tide op show ${bad.id} tells what was undone`,
  });
}

const SAID_AS: Partial<Record<OperationRow['status'], string>> = { cancelled: 'was cancelled', done: 'has been done' };

/** Moves, balance and the price. csv and tsv carry the moves alone; json is `answer`, the API's own. */
export function showPlan(session: Session, plan: PlanResult, answer: unknown = plan): void {
  session.show(plan.moves, columns<MoveRow>('kind', 'table', 'pid', 'from', 'to', 'bytes:bytes', 'reason'), answer);
  if (session.format === 'table') showBalance(session, plan);
  warnOfBlocked(session, plan.blocked);
}

function showBalance(session: Session, plan: PlanResult): void {
  type Row = PlanResult['balance'][number];
  session.say('');
  session.show(plan.balance, [
    ...columns<Row>('node', 'replicasBefore', 'replicasAfter', 'leadersBefore', 'leadersAfter'),
    ...columns<Row>('bytesBefore:bytes', 'bytesAfter:bytes'),
  ]);
  const ratio = plan.bytesMinimal === 0 ? '' : ` (${(plan.bytesMoved / plan.bytesMinimal).toFixed(2)} x)`;
  const moved = `${humanBytes(plan.bytesMoved)} to move`;
  session.say(`\n${plan.moves.length} moves, ${moved}; the least possible is ${humanBytes(plan.bytesMinimal)}${ratio}`);
}
