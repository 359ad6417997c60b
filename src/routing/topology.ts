import type {
  ClusterView,
  NodeId,
  NodeRecord,
  NodeState,
  Partition,
  ReplicaState,
  TableDefinition,
  TableId,
  TableRecord,
  TableState,
} from '../catalog/model.ts';
import { connectedNodes, isOut, partitionKey } from '../catalog/view.ts';
import { must } from '../core/assert.ts';

/** What whoever routes statements has to know of the cluster. `revision`: of the view it was made from. */
export interface Topology {
  readonly revision: number;
  readonly nodes: ReadonlyMap<NodeId, TopologyNode>;
  readonly tables: ReadonlyMap<TableId, TopologyTable>;
}

/** A node that has not left. */
export interface TopologyNode {
  readonly id: NodeId;
  readonly state: NodeState;
  /** Found, or said, to be down: it leads nothing. */
  readonly isOut: boolean;
  readonly isDraining: boolean;
  /** HOST:PORT for SQL and the admin API. */
  readonly address: string;
  /** HOST:PORT */
  readonly httpAddress: string;
  /** Where its PostgreSQL listens for other nodes. */
  readonly postgresHost: string;
  readonly postgresPort: number;
}

export interface TopologyTable {
  readonly tid: TableId;
  readonly schema: string;
  readonly name: string;
  readonly state: TableState;
  /** The column whose hash chooses the partition. */
  readonly distributeBy: string;
  readonly columns: readonly TopologyColumn[];
  /** In key order. */
  readonly primaryKey: readonly string[];
  /** Indexed by pid. */
  readonly partitions: readonly TopologyPartition[];
}

export interface TopologyColumn {
  readonly name: string;
  readonly type: string;
  readonly notNull: boolean;
}

export interface TopologyPartition {
  readonly tid: TableId;
  readonly pid: number;
  /** Raised at every change of leader. */
  readonly epoch: number;
  readonly leader: NodeId;
  /** The leader's included. */
  readonly replicas: readonly { readonly node: NodeId; readonly state: ReplicaState }[];
}

/** What leads from one topology to a later one, as it is sent. */
export interface TopologyChange {
  /** Of the topology that it leads to. */
  readonly revision: number;
  /** Of the topology that it changes; null: it is a whole one. */
  readonly from: number | null;
  /** New ones and changed ones, whole. */
  readonly nodes: readonly TopologyNode[];
  readonly nodesGone: readonly NodeId[];
  readonly tables: readonly TopologyTable[];
  readonly tablesGone: readonly TableId[];
  /** Changed ones of tables that are otherwise as they were. */
  readonly partitions: readonly TopologyPartition[];
}

export function topologyOf(view: ClusterView): Topology {
  return {
    revision: view.revision,
    nodes: new Map(connectedNodes(view).map((n) => [n.id, nodeOf(n, isOut(view, n.id))])),
    tables: new Map([...view.tables].map(([tid, table]) => [tid, tableOf(table)])),
  };
}

function nodeOf(record: NodeRecord, out: boolean): TopologyNode {
  const { id, state, draining, address, httpAddress, postgresHost, postgresPort } = record;
  return { id, state, isOut: out, isDraining: draining, address, httpAddress, postgresHost, postgresPort };
}

/** Views share what has not changed between them; so do topologies, and are told apart in no time. */
function once<K extends object, V>(make: (of: K) => V): (of: K) => V {
  const made = new WeakMap<K, V>();
  return (of) => {
    const known = made.get(of);
    if (known !== undefined) return known;
    const value = make(of);
    made.set(of, value);
    return value;
  };
}

const columnsOf = once(({ columns }: TableDefinition): readonly TopologyColumn[] =>
  columns.map(({ name, type, notNull }) => ({ name, type, notNull })),
);

const partitionOf = once(
  ({ tid, pid, epoch, leader, replicas }: Partition): TopologyPartition => ({
    tid,
    pid,
    epoch,
    leader,
    replicas: replicas.map(({ node, state }) => ({ node, state })),
  }),
);

const tableOf = once(
  ({ tid, schema, name, state, distributeBy, definition, partitions }: TableRecord): TopologyTable => {
    const facts = { tid, schema, name, state, distributeBy, primaryKey: definition.primaryKey };
    return { ...facts, columns: columnsOf(definition), partitions: partitions.map(partitionOf) };
  },
);

export function wholeTopology({ revision, nodes, tables }: Topology): TopologyChange {
  const all = { nodes: [...nodes.values()], tables: [...tables.values()] };
  return { revision, from: null, ...all, nodesGone: [], tablesGone: [], partitions: [] };
}

export function topologyChange(before: Topology, after: Topology): TopologyChange {
  const nodes = [...after.nodes.values()].filter((node) => !isSame(before.nodes.get(node.id), node));
  const tables: TopologyTable[] = [];
  const partitions: TopologyPartition[] = [];
  for (const table of after.tables.values()) {
    const known = before.tables.get(table.tid);
    if (known === table) continue;
    if (!known || !isSameBut('partitions', known, table)) tables.push(table);
    else partitions.push(...table.partitions.filter((p) => !isSame(known.partitions[p.pid], p)));
  }
  const nodesGone = [...before.nodes.keys()].filter((id) => !after.nodes.has(id));
  const tablesGone = [...before.tables.keys()].filter((tid) => !after.tables.has(tid));
  return { revision: after.revision, from: before.revision, nodes, nodesGone, tables, tablesGone, partitions };
}

function isSame(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

function isSameBut<T extends object>(field: keyof T, a: T, b: T): boolean {
  return (Object.keys(a) as (keyof T)[]).every((key) => key === field || isSame(a[key], b[key]));
}

export function changesNothing({ from, nodes, nodesGone, tables, tablesGone, partitions }: TopologyChange): boolean {
  return from !== null && [nodes, nodesGone, tables, tablesGone, partitions].every(({ length }) => length === 0);
}

/** Null where the change is from another topology than `before`: the whole one is needed then. */
export function changedTopology(before: Topology | null, change: TopologyChange): Topology | null {
  const { revision, from } = change;
  if (from !== null && from !== before?.revision) return null;
  const nodes = new Map(from === null ? [] : before?.nodes);
  const tables = new Map(from === null ? [] : before?.tables);
  for (const id of change.nodesGone) nodes.delete(id);
  for (const tid of change.tablesGone) tables.delete(tid);
  for (const node of change.nodes) nodes.set(node.id, node);
  for (const table of change.tables) tables.set(table.tid, table);
  const changed = new Map(change.partitions.map((p) => [partitionKey(p.tid, p.pid), p]));
  for (const tid of new Set(change.partitions.map((p) => p.tid))) {
    const table = must(tables.get(tid), `table ${tid}`);
    const partitions = table.partitions.map((p) => changed.get(partitionKey(tid, p.pid)) ?? p);
    tables.set(tid, { ...table, partitions });
  }
  return { revision, nodes: sorted(nodes), tables: sorted(tables) };
}

function sorted<V>(byId: Map<number, V>): Map<number, V> {
  return new Map([...byId].sort(([a], [b]) => a - b));
}
