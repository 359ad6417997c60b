import type { ClusterView, NodeId, Partition, TableRecord } from './model.ts';
import { allPartitions, connectedNodes, replicaOn, servedPartitions } from './view.ts';

/** Who holds replicas of what, and with whom. */

/** Partitions with a replica on the node, in whatever state. */
export function heldBy(view: ClusterView, node: NodeId): Partition[] {
  return [...allPartitions(view)].map(({ partition }) => partition).filter((p) => replicaOn(p, node));
}

/** Those of them that clients can use. */
export function servedOn(view: ClusterView, node: NodeId): Partition[] {
  return [...servedPartitions(view)].map(({ partition }) => partition).filter((p) => replicaOn(p, node));
}

/** Whether there is a partition with replicas on both nodes, in whatever state: they need streams. */
export function haveInCommon(view: ClusterView, a: NodeId, b: NodeId): boolean {
  for (const { partition } of allPartitions(view)) if (replicaOn(partition, a) && replicaOn(partition, b)) return true;
  return false;
}

/** Partitions that clients can use and that both nodes hold in step with the leader. */
export function inStepOn(view: ClusterView, a: NodeId, b: NodeId): Partition[] {
  const inStep = (p: Partition, node: NodeId) => replicaOn(p, node)?.state === 'ready';
  return servedOn(view, a).filter((p) => inStep(p, a) && inStep(p, b));
}

/** Replicas of a table on nodes that have not left. */
export function replicasOf(view: ClusterView, table: TableRecord): { node: NodeId; pid: number }[] {
  const here = new Set(connectedNodes(view).map((n) => n.id));
  return table.partitions.flatMap((p) =>
    p.replicas.filter((r) => here.has(r.node)).map((r) => ({ node: r.node, pid: p.pid })),
  );
}

/** Nodes that hold some of a table and have not left, by id. */
export function holdersOf(view: ClusterView, table: TableRecord): NodeId[] {
  return [...new Set(replicasOf(view, table).map((r) => r.node))].sort((a, b) => a - b);
}

/** What one node sends to another of a table. */
export interface Pair {
  from: NodeId;
  to: NodeId;
  refs: Pick<Partition, 'tid' | 'pid'>[];
}

/** Every ordered pair of nodes that share partitions of a table, with those partitions. */
export function pairsOf(view: ClusterView, table: TableRecord): Pair[] {
  const here = new Set(holdersOf(view, table));
  const pairs = new Map<string, Pair>();
  for (const { tid, pid, replicas } of table.partitions) {
    const holders = replicas.filter((r) => here.has(r.node));
    for (const a of holders) {
      for (const b of holders) {
        if (a.node === b.node) continue;
        const key = `${a.node}>${b.node}`;
        const pair = pairs.get(key) ?? { from: a.node, to: b.node, refs: [] };
        pair.refs.push({ tid, pid });
        pairs.set(key, pair);
      }
    }
  }
  return [...pairs.values()];
}
