import type { ClusterView, NodeId, NodeRecord, Partition, Replica, TableRecord } from './model.ts';

/** `4/0`: how a partition is named in keys, locks and messages. */
export function partitionKey(tid: number, pid: number): string {
  return `${tid}/${pid}`;
}

/** `4/0 on 2`: one replica. */
export function replicaKey({ tid, pid }: Pick<Partition, 'tid' | 'pid'>, node: NodeId): string {
  return `${partitionKey(tid, pid)} on ${node}`;
}

/** Nodes that may hold replicas and take new ones, by id. */
export function memberNodes(view: ClusterView): NodeRecord[] {
  return [...view.nodes.values()].filter((n) => n.state === 'active').sort((a, b) => a.id - b.id);
}

/** Nodes whose PostgreSQL is part of the cluster: they hold hinges, whether or not they may take replicas. */
export function connectedNodes(view: ClusterView): NodeRecord[] {
  return [...view.nodes.values()].filter((n) => n.state !== 'decommissioned').sort((a, b) => a.id - b.id);
}

/**
 * Found or said to be down: it is not asked for anything, and what is left there is removed when it returns.
 */
export function isOut(view: ClusterView, node: NodeId): boolean {
  return view.nodes.get(node)?.outage !== undefined;
}

export function hasLeft(view: ClusterView, node: NodeId): boolean {
  return view.nodes.get(node)?.state === 'decommissioned';
}

/** Nobody asks it for anything: it is out, or has left. */
export function isGone(view: ClusterView, node: NodeId): boolean {
  return isOut(view, node) || hasLeft(view, node);
}

export function replicaOn(partition: Partition, node: NodeId): Replica | undefined {
  return partition.replicas.find((r) => r.node === node);
}

export function partitionOf(view: ClusterView, tid: number, pid: number): Partition | undefined {
  return view.tables.get(tid)?.partitions[pid];
}

export function* allPartitions(view: ClusterView): Generator<{ table: TableRecord; partition: Partition }> {
  for (const table of view.tables.values()) for (const partition of table.partitions) yield { table, partition };
}

/**
 * Those of tables that clients can use. One that is being made or dropped is its operation's alone, through
 * every outage.
 */
export function* servedPartitions(view: ClusterView): Generator<{ table: TableRecord; partition: Partition }> {
  for (const found of allPartitions(view)) if (found.table.state === 'ready') yield found;
}

const ledIn = new WeakMap<ClusterView, ReadonlyMap<NodeId, readonly Partition[]>>();

/** Partitions by the node that leads them; made once per view, which never changes. */
export function ledPartitions(view: ClusterView): ReadonlyMap<NodeId, readonly Partition[]> {
  const known = ledIn.get(view);
  if (known) return known;
  const led = new Map<NodeId, Partition[]>();
  for (const { partition } of allPartitions(view)) {
    const of = led.get(partition.leader);
    if (of) of.push(partition);
    else led.set(partition.leader, [partition]);
  }
  ledIn.set(view, led);
  return led;
}

/** Partitions of tables that clients can use, led by the node. */
export function servedBy(view: ClusterView, node: NodeId): Partition[] {
  return (ledPartitions(view).get(node) ?? []).filter(({ tid }) => view.tables.get(tid)?.state === 'ready');
}

/**
 * What `from` leads and `to` follows in step: what is lost where the stream between them is. A table that is
 * being made has none yet.
 */
export function fedThrough(view: ClusterView, from: NodeId, to: NodeId): Partition[] {
  return servedBy(view, from).filter((p) => replicaOn(p, to)?.state === 'ready');
}

/** `acct`, or `app.acct` where the schema is not public. */
export function tableName(table: Pick<TableRecord, 'schema' | 'name'>): string {
  return table.schema === 'public' ? table.name : `${table.schema}.${table.name}`;
}
