import type { Command } from 'commander';
import type { LocalDataRow, StartedResult } from '../api/results.ts';
import { describeLocalData } from '../core/local-data.ts';
import type { Session } from './session.ts';

export interface AbandonFlag {
  abandonLocalTables?: true;
}

const NAMED_MAX = 10;

/** Adds `--abandon-local-tables` to a command that takes nodes away. */
export function withAbandon(command: Command): Command {
  return command.option(
    '--abandon-local-tables',
    'also where nodes hold ordinary tables with rows, or other data that no other node has: it leaves with them',
  );
}

/** Says what leaves with each node because that was accepted, and what could not be looked at. */
export function warnOfLocalData(session: Session, started: Pick<StartedResult, 'localData' | 'notLookedAt'>): void {
  const byNode = new Map<number, LocalDataRow[]>();
  for (const row of started.localData ?? []) byNode.set(row.node, [...(byNode.get(row.node) ?? []), row]);
  for (const [node, rows] of byNode)
    session.warn(`node ${node} takes along what no other node has: ${describeLocalData(rows, NAMED_MAX)}`);
  for (const node of started.notLookedAt ?? [])
    session.warn(`node ${node} does not answer: whether it holds ordinary tables could not be looked at`);
}
