import type { ClusterView, NodeId } from '../catalog/model.ts';
import { connectedNodes, tableName } from '../catalog/view.ts';
import { type TideError, tideError } from '../core/errors.ts';

/** Sentences name this many nodes. */
const NODES_MAX = 10;

/** `nodes 1, 2 and 5`, `node 3` or `nodes 1, 2, 3 and 90 more`. */
export function nodeList(ids: readonly NodeId[]): string {
  const sorted = [...ids].sort((a, b) => a - b);
  if (sorted.length <= 1) return sorted.length === 1 ? `node ${sorted[0]}` : 'no node';
  const more = sorted.length - NODES_MAX;
  if (more > 0) return `nodes ${sorted.slice(0, NODES_MAX).join(', ')} and ${more} more`;
  return `nodes ${sorted.slice(0, -1).join(', ')} and ${sorted.at(-1)}`;
}

/** `acct 4` */
export function partitionName(view: ClusterView, at: { tid: number; pid: number }): string {
  const table = view.tables.get(at.tid);
  return `${table ? tableName(table) : `table ${at.tid}`} ${at.pid}`;
}

export function unknownNode(view: ClusterView, id: NodeId): TideError {
  return tideError('NODE_UNKNOWN', { node: String(id), known: nodeList(connectedNodes(view).map((n) => n.id)) });
}
