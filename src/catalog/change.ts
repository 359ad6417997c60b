import { assert, must } from '../core/assert.ts';
import type {
  ClusterView,
  NodeId,
  NodeRecord,
  Partition,
  Replica,
  ReplicaState,
  Settings,
  SettingValue,
  TableRecord,
  TableState,
} from './model.ts';
import { partitionKey, replicaOn } from './view.ts';

/** Every way the catalog can change. What is stored is what it comes to (`manager/catalog-store.ts`). */
export type CatalogChange =
  | { kind: 'node-added'; node: NodeRecord }
  /** Fields of a known node; the others stay as they are. A value of undefined takes a field away. */
  | { kind: 'node-changed'; id: NodeId; change: { [K in keyof NodeRecord]?: NodeRecord[K] | undefined } }
  | { kind: 'table-added'; table: TableRecord }
  | { kind: 'table-state'; tid: number; state: TableState }
  | { kind: 'table-removed'; tid: number }
  /** In place of whatever the node has of it. */
  | { kind: 'replica-added'; tid: number; pid: number; node: NodeId; state: ReplicaState }
  /** Of a replica that there is; else nothing changes. */
  | {
      kind: 'replica-changed';
      tid: number;
      pid: number;
      node: NodeId;
      state: ReplicaState;
      why?: string;
      /** Only where that is its state now; else nothing changes. */
      was?: ReplicaState;
    }
  | { kind: 'replica-removed'; tid: number; pid: number; node: NodeId }
  | { kind: 'leader-changed'; tid: number; pid: number; leader: NodeId }
  | { kind: 'setting-changed'; key: keyof Settings; value: SettingValue };

/** Which records a change has made, changed or removed: the store writes these, and no others. */
export interface Touched {
  nodes: Set<NodeId>;
  tables: Set<number>;
  /** partitionKey */
  partitions: Set<string>;
  settings: boolean;
}

/**
 * Applies one change, and checks what must hold of each partition that it touched. Throws where that is
 * broken, and where what is to be changed is not there: the caller's decision was wrong.
 */
export function applyChange(view: ClusterView, change: CatalogChange): { view: ClusterView; touched: Touched } {
  const touched: Touched = { nodes: new Set(), tables: new Set(), partitions: new Set(), settings: false };
  switch (change.kind) {
    case 'node-added': {
      const { node } = change;
      assert(!view.nodes.has(node.id), `node ${node.id} is added once`);
      touched.nodes.add(node.id);
      return { view: withNode(view, node), touched };
    }
    case 'node-changed': {
      const merged = Object.entries({ ...must(view.nodes.get(change.id), `node ${change.id}`), ...change.change });
      const node = Object.fromEntries(merged.filter(([, value]) => value !== undefined)) as unknown as NodeRecord;
      touched.nodes.add(change.id);
      return { view: withNode(view, node), touched };
    }
    case 'table-added': {
      assert(!view.tables.has(change.table.tid), `table ${change.table.tid} is added once`);
      const tables = new Map(view.tables).set(change.table.tid, change.table);
      touched.tables.add(change.table.tid);
      for (const p of change.table.partitions) {
        checkPartition(view, p);
        touched.partitions.add(partitionKey(p.tid, p.pid));
      }
      return { view: { ...view, tables }, touched };
    }
    case 'table-state': {
      const table = must(view.tables.get(change.tid), `table ${change.tid}`);
      touched.tables.add(change.tid);
      return {
        view: { ...view, tables: new Map(view.tables).set(change.tid, { ...table, state: change.state }) },
        touched,
      };
    }
    case 'table-removed': {
      const tables = new Map(view.tables);
      for (const p of must(tables.get(change.tid), `table ${change.tid}`).partitions) {
        touched.partitions.add(partitionKey(p.tid, p.pid));
      }
      tables.delete(change.tid);
      touched.tables.add(change.tid);
      return { view: { ...view, tables }, touched };
    }
    case 'setting-changed': {
      touched.settings = true;
      const next = { ...view, settings: { ...view.settings, [change.key]: change.value } };
      return { view: change.key === 'durability' ? keepPromises(view, next, touched.nodes) : next, touched };
    }
    default: {
      const next = changePartition(view, change);
      checkPartition(view, next);
      touched.partitions.add(partitionKey(next.tid, next.pid));
      return { view: withPartition(view, next), touched };
    }
  }
}

/** A node that is out acknowledges nothing under the new setting: what it has is judged by the old one. */
function keepPromises(before: ClusterView, next: ClusterView, touched: Set<NodeId>): ClusterView {
  if (before.settings.durability !== 'quorum') return next;
  const nodes = new Map(next.nodes);
  for (const node of next.nodes.values()) {
    if (!node.outage) continue;
    nodes.set(node.id, { ...node, outage: { ...node.outage, promised: true } });
    touched.add(node.id);
  }
  return { ...next, nodes };
}

type PartitionChange = Extract<
  CatalogChange,
  { kind: 'replica-added' | 'replica-changed' | 'replica-removed' | 'leader-changed' }
>;

function changePartition(view: ClusterView, change: PartitionChange): Partition {
  const partition = must(view.tables.get(change.tid)?.partitions[change.pid], `partition ${change.tid}/${change.pid}`);
  switch (change.kind) {
    case 'replica-added':
      return withReplica(partition, { node: change.node, state: change.state });
    case 'replica-changed': {
      const { node, state, why, was } = change;
      const before = replicaOn(partition, node);
      if (!before || (was !== undefined && before.state !== was)) return partition;
      return withReplica(partition, state === 'stale' && why !== undefined ? { node, state, why } : { node, state });
    }
    case 'replica-removed':
      return { ...partition, replicas: partition.replicas.filter((r) => r.node !== change.node) };
    case 'leader-changed':
      return { ...partition, leader: change.leader, epoch: partition.epoch + 1 };
  }
}

function withReplica(partition: Partition, replica: Replica): Partition {
  const others = partition.replicas.filter((r) => r.node !== replica.node);
  return { ...partition, replicas: [...others, replica].sort((a, b) => a.node - b.node) };
}

function withNode(view: ClusterView, node: NodeRecord): ClusterView {
  return { ...view, nodes: new Map(view.nodes).set(node.id, node) };
}

function withPartition(view: ClusterView, partition: Partition): ClusterView {
  const table = must(view.tables.get(partition.tid), `table ${partition.tid}`);
  const partitions = table.partitions.with(partition.pid, partition);
  return { ...view, tables: new Map(view.tables).set(table.tid, { ...table, partitions }) };
}

function checkPartition(view: ClusterView, partition: Partition): void {
  const name = `partition ${partitionKey(partition.tid, partition.pid)}`;
  const nodes = partition.replicas.map((r) => r.node);
  assert(new Set(nodes).size === nodes.length, `${name} has two replicas on one node`);
  assert(
    nodes.every((n) => view.nodes.has(n)),
    `${name} has a replica on an unknown node`,
  );
  assert(
    replicaOn(partition, partition.leader)?.state === 'ready',
    `${name}: its leader ${partition.leader} is not ready`,
  );
}
