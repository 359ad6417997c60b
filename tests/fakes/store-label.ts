import type { NodeId, NodeRecord, TableRecord } from '../../src/catalog/model.ts';
import { partitionTable } from '../../src/catalog/names.ts';
import type { OperationRecord } from '../../src/operations/operation.ts';
import { OPERATION_KINDS } from '../../src/operations/registry.ts';

/**
 * What a write to the store says in a golden: `op 1 move-replica: running swing`, or what the catalog says
 * now.
 */
export function storeLabel(key: string, value: OperationRecord & { nodes?: unknown }): string {
  if (key.startsWith('/op/')) {
    const step = OPERATION_KINDS.get(value.kind)?.steps[value.step]?.name;
    const at = value.status === 'running' || value.status === 'undoing' ? ` ${step}` : '';
    return `op ${value.id} ${value.kind}: ${value.status}${at}`;
  }
  if (key.startsWith('/catalog/partition/')) {
    const p = value as unknown as TableRecord['partitions'][number];
    const role = (node: NodeId) => (node === p.leader ? '*' : '');
    const replicas = p.replicas.map((r) => `n${r.node}${role(r.node)}${r.state === 'ready' ? '' : ` ${r.state}`}`);
    return `catalog ${partitionTable(p.tid, p.pid)}: ${replicas.join(', ')}`;
  }
  if (key.startsWith('/catalog/node/')) {
    const node = value as unknown as NodeRecord;
    const of = (node.quorums ?? []).map((q) => `${q.count} of ${q.nodes.map((n) => `n${n}`).join('+') || 'nobody'}`);
    const flags = [
      node.draining && 'draining',
      node.outage && 'out',
      of.length > 0 && `acknowledges by ${of.join(' or ')}`,
    ];
    return `catalog n${node.id}: ${[node.state, ...flags.filter(Boolean)].join(', ')}`;
  }
  if (key.startsWith('/catalog/table/'))
    return `catalog table ${(value as unknown as TableRecord).name}: ${(value as unknown as TableRecord).state}`;
  return `store ${key}`;
}
