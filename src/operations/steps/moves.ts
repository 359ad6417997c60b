import type { ClusterView, LoadView } from '../../catalog/model.ts';
import { tableName } from '../../catalog/view.ts';
import { type TideError, tideError } from '../../core/errors.ts';
import { type MoveRequest, preflightMove } from '../../placement/preflight.ts';
import { partitionLock } from '../operation.ts';
import type { PartitionRef } from '../ports.ts';

/**
 * What the operations on one partition share beside their steps. A planned move of each kind is an operation
 * of the same name.
 */

/** `acct 3` */
export function partitionNamed(view: ClusterView, ref: PartitionRef): string {
  const table = view.tables.get(ref.tid);
  return `${table ? tableName(table) : `t${ref.tid}`} ${ref.pid}`;
}

/** The planner's own rules, asked again when the operation's turn comes. */
export const refuseMove =
  (kind: MoveRequest['kind']) =>
  (input: PartitionRef, view: ClusterView, load: LoadView): TideError | undefined => {
    if (!view.tables.has(input.tid)) return tideError('TABLE_UNKNOWN', { table: `t${input.tid}` });
    return preflightMove(view, load, { ...input, kind } as MoveRequest)[0];
  };

/** One operation per partition. */
export const moveLocks = (input: PartitionRef) => [partitionLock(input.tid, input.pid)];
