import type { Command } from 'commander';
import type { OperationResult, OperationRow, PauseRow } from '../../api/results.ts';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { positive } from '../flags.ts';
import { columns } from '../output.ts';
import { progressLine } from '../progress.ts';
import type { Session } from '../session.ts';
import { watchAll } from '../wait.ts';
import { finishWork, operationColumns, requireDone } from '../work.ts';

/** `tide op …` */
export function addOp(program: Command, run: CliRun): void {
  const op = program.command('op').description('look at operations, follow and cancel them');
  addList(op, run);
  addShow(op, run);
  addWatch(op, run);
  addCancel(op, run);
}

function addList(op: Command, run: CliRun): void {
  const ls = defineClient(op, {
    usage: 'ls',
    summary: 'operations under way, with what they wait for, and the last 20 that ended',
    examples: ['tide op ls', 'tide op ls --all --format=json'],
  }).option('--all', 'all that ended too');
  onClient<{ all?: true }>(run, ls, async ({ session, flags }) => {
    session.show(await session.call({ do: 'op-ls', all: flags.all ?? false }), operationColumns);
    return 0;
  });
}

function addShow(op: Command, run: CliRun): void {
  const show = defineClient(op, {
    usage: 'show',
    summary: 'one operation: its steps, what it waits for, the pauses it made; csv and tsv carry the first table alone',
    examples: ['tide op show 12', 'tide op show 12 --format=json'],
  }).argument('<id>', 'number of the operation', positive);
  onClient(run, show, async ({ session }) => {
    const id = Number(show.processedArgs[0]);
    const found = await session.call({ do: 'op-show', id });
    session.show(facts(found), columns<Fact>('field', 'value'), found);
    if (session.format === 'table') showParts(session, found);
    return 0;
  });
}

interface Fact {
  field: string;
  value: string;
}

function facts(op: OperationResult): Fact[] {
  const pauses = op.pauseMs;
  const all: [string, string | null | undefined][] = [
    ['operation', progressLine(op)],
    ['status', op.status],
    ['parent', op.parent === null ? null : String(op.parent)],
    ['created_at', op.createdAt],
    ['started_at', op.startedAt],
    ['ended_at', op.endedAt],
    ['waits_for', op.waitsFor?.text],
    ['waits_for_query', op.waitsFor?.query],
    ['error', op.error?.message],
    ['error_code', op.error?.code],
    ['hint', op.error?.hint],
    ['pause_ms', pauses && `p50 ${pauses.p50}, p99 ${pauses.p99}, max ${pauses.max} (${pauses.count} pauses)`],
  ];
  return all.flatMap(([field, value]) => (value === null || value === undefined ? [] : [{ field, value }]));
}

function showParts(session: Session, op: OperationResult): void {
  section(session, 'steps', op.steps, () => columns<OperationResult['steps'][number]>('name', 'status', 'noReturn'));
  section(session, 'children', op.children, () => operationColumns);
  section(session, 'pauses', op.pauses, () => [
    ...columns<PauseRow>('table', 'pid', 'node', 'purpose', 'outcome', 'pauseMs:ms', 'at:time'),
  ]);
  section(session, 'claims', op.claims, () => columns<OperationResult['claims'][number]>('kind', 'node', 'name'));
}

function section<T>(
  session: Session,
  title: string,
  rows: T[],
  shape: () => Parameters<typeof session.show<T>>[1],
): void {
  if (rows.length === 0) return;
  session.say(`\n${title}`);
  session.show(rows, shape());
}

function addWatch(op: Command, run: CliRun): void {
  const watch = defineClient(op, {
    usage: 'watch',
    summary: 'follow an operation to its end, or all of them until nothing runs',
    examples: ['tide op watch 12', 'tide op watch'],
  }).argument('[id]', 'number of the operation', positive);
  onClient(run, watch, async ({ session }) => {
    const id: unknown = watch.processedArgs[0];
    if (typeof id === 'number') await finishWork(session, [id], 'all');
    else {
      const ops = await watchAll(session);
      session.show<OperationRow>(ops, operationColumns);
      requireDone(ops);
    }
    return 0;
  });
}

function addCancel(op: Command, run: CliRun): void {
  const cancel = defineClient(op, {
    usage: 'cancel',
    summary: 'cancel an operation and put back what was; refused past its point of no return',
    examples: ['tide op cancel 12'],
  }).argument('<id>', 'number of the operation', positive);
  onClient(run, cancel, async ({ session }) => {
    const cancelled = await session.call({ do: 'op-cancel', id: Number(cancel.processedArgs[0]) });
    session.show([cancelled], operationColumns, cancelled);
    return 0;
  });
}
