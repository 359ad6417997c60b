import type { ClusterView, LoadView, NodeId, NodeLoad, NodeRecord } from '../catalog/model.ts';
import { must } from '../core/assert.ts';

/**
 * The cluster with `count` more nodes, alive and empty: for `tide plan --add`. Ids go on, disks are like the
 * median node's.
 */
export function withAddedNodes(
  view: ClusterView,
  load: LoadView,
  count: number,
): { view: ClusterView; load: LoadView } {
  const nodes = new Map(view.nodes);
  const loads = new Map(load.nodes);
  const disk = medianDisk(load);
  let id = Math.max(0, ...nodes.keys());
  for (let i = 0; i < count; i++) {
    id++;
    nodes.set(id, newNode([...nodes.values()], id));
    loads.set(id, { node: id, alive: true, diskTotalBytes: disk, diskFreeBytes: disk });
  }
  return { view: { ...view, nodes }, load: { ...load, nodes: loads } };
}

/** The cluster with these nodes decommissioning: for `tide plan --remove`, dry runs and the preflight. */
export function withDecommissioning(view: ClusterView, leaving: readonly NodeId[]): ClusterView {
  const nodes = new Map(view.nodes);
  for (const id of leaving) {
    nodes.set(id, { ...must(nodes.get(id), `node ${id}`), state: 'decommissioning' });
  }
  return { ...view, nodes };
}

/** The cluster with this node draining: for the preflight of a drain. */
export function withDraining(view: ClusterView, node: NodeId): ClusterView {
  const { drained: _, ...record } = must(view.nodes.get(node), `node ${node}`);
  return { ...view, nodes: new Map(view.nodes).set(node, { ...record, draining: true }) };
}

/** 0 where no node's disk is known: unknown, which placement takes as room enough. */
function medianDisk(load: LoadView): number {
  const known = [...load.nodes.values()].map((n: NodeLoad) => n.diskTotalBytes).filter((bytes) => bytes > 0);
  known.sort((a, b) => a - b);
  return known[(known.length - 1) >> 1] ?? 0;
}

/** A new node goes where there are fewest: one without locality would look like a zone of its own. */
function newNode(others: readonly NodeRecord[], id: NodeId): NodeRecord {
  const active = others.filter((n) => n.state === 'active').sort((a, b) => a.id - b.id);
  const byLocality = new Map<string, NodeRecord[]>();
  for (const node of active) {
    const key = node.locality.map((t) => `${t.key}=${t.value}`).join(',');
    byLocality.set(key, [...(byLocality.get(key) ?? []), node]);
  }
  const fewest = [...byLocality.values()].sort((a, b) => a.length - b.length)[0];
  const address = `new-${id}`;
  return {
    id,
    state: 'active',
    draining: false,
    address,
    httpAddress: address,
    postgresHost: address,
    postgresPort: 0,
    locality: fewest?.[0]?.locality ?? [],
    attrs: [],
    build: '',
    startMode: 'start',
    startedAt: '',
  };
}
