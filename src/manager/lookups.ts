import type { ClusterView, NodeId, NodeRecord, Partition, TableRecord } from '../catalog/model.ts';
import { tableName } from '../catalog/view.ts';
import { tideError } from '../core/errors.ts';
import { unknownNode } from '../placement/naming.ts';

/** The table called `name`, `schema.name` where not in public. Throws TABLE_UNKNOWN. */
export function tableNamed(view: ClusterView, name: string): TableRecord {
  const wanted = name.startsWith('public.') ? name.slice('public.'.length) : name;
  const found = [...view.tables.values()].find((t) => tableName(t) === wanted);
  if (!found) throw tideError('TABLE_UNKNOWN', { table: name });
  return found;
}

/** The same, where clients can use it. Throws TABLE_UNKNOWN, TABLE_NOT_READY. */
export function readyTable(view: ClusterView, name: string): TableRecord {
  const table = tableNamed(view, name);
  if (table.state !== 'ready') throw tideError('TABLE_NOT_READY', { table: name, state: table.state });
  return table;
}

/** Throws NODE_UNKNOWN. */
export function nodeById(view: ClusterView, id: NodeId): NodeRecord {
  const node = view.nodes.get(id);
  if (!node) throw unknownNode(view, id);
  return node;
}

/** Throws PARTITION_UNKNOWN. */
export function requirePartition(table: TableRecord, pid: number): Partition {
  const partition = table.partitions[pid];
  if (partition) return partition;
  throw tideError('PARTITION_UNKNOWN', { table: tableName(table), pid, count: table.partitionCount });
}
