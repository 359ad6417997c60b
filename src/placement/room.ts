import type { ClusterView, LoadView, NodeId } from '../catalog/model.ts';

/**
 * Bytes that `node` can take before its disk is fuller than `disk.margin` allows; may be negative; infinite
 * where unknown.
 */
export function roomOf(view: ClusterView, load: LoadView, node: NodeId): number {
  const disk = load.nodes.get(node);
  if (!disk || !(disk.diskTotalBytes > 0)) return Number.POSITIVE_INFINITY;
  return disk.diskFreeBytes - (disk.diskTotalBytes * view.settings['disk.margin']) / 100;
}
