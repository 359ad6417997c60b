import type { ClusterView, NodeId } from '../catalog/model.ts';
import { connectedNodes, tableName } from '../catalog/view.ts';
import { type TideError, tideError } from '../core/errors.ts';

/** Sentences name this many partitions; the details of an error carry the count of all. */
const NAMED_MAX = 10;

/** `nodes 1, 2 and 5` or `node 3`. */
export function nodeList(ids: readonly NodeId[]): string {
  const sorted = [...ids].sort((a, b) => a - b);
  if (sorted.length <= 1) return sorted.length === 1 ? `node ${sorted[0]}` : 'no node';
  return `nodes ${sorted.slice(0, -1).join(', ')} and ${sorted.at(-1)}`;
}

/** `acct 4` */
export function partitionName(view: ClusterView, at: { tid: number; pid: number }): string {
  const table = view.tables.get(at.tid);
  return `${table ? tableName(table) : `table ${at.tid}`} ${at.pid}`;
}

/** `acct 1, acct 2 and 34 more` */
export function some(names: readonly string[]): string {
  const more = names.length - NAMED_MAX;
  return names.slice(0, NAMED_MAX).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

export function unknownNode(view: ClusterView, id: NodeId): TideError {
  return tideError('NODE_UNKNOWN', { node: String(id), known: nodeList(connectedNodes(view).map((n) => n.id)) });
}
