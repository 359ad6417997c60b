import type { ClusterView, NodeId, Partition } from '../catalog/model.ts';
import { partitionKey, partitionOf, replicaOn } from '../catalog/view.ts';
import type { OperationRecord } from '../operations/operation.ts';
import type { Runner } from '../operations/runner.ts';

export interface PromotionPorts {
  runner: Pick<Runner, 'unended' | 'cancel'>;
  view(): ClusterView;
}

/**
 * Operations that are about to make a follower the leader: it cannot be made stale under them. Everything
 * else that needs its stream finds it gone, and gives up.
 */
export class Promotions {
  readonly #ports: PromotionPorts;

  constructor(ports: PromotionPorts) {
    this.#ports = ports;
  }

  /**
   * True where `to` is about to lead none of `partitions`, which `from` leads; else those that still can be
   * are cancelled.
   */
  async end(from: NodeId, to: NodeId, partitions: readonly Partition[]): Promise<boolean> {
    const promoting = this.#of(from, to, partitions);
    for (const { id, passedNoReturn, cancelRequested } of promoting)
      if (!passedNoReturn && !cancelRequested) await this.#ports.runner.cancel(id).catch(() => {});
    return promoting.length === 0;
  }

  /** Whether `to` may come to lead one of them in this moment, though the catalog does not say so yet. */
  maySwing(from: NodeId, to: NodeId, partitions: readonly Partition[]): boolean {
    return this.#of(from, to, partitions).some(({ began }) => began === 'swing');
  }

  #of(from: NodeId, to: NodeId, partitions: readonly Partition[]): OperationRecord[] {
    const keys = new Set(partitions.map((p) => partitionKey(p.tid, p.pid)));
    return this.#ports.runner.unended().filter(({ input, status, kind }) => {
      if (kind !== 'change-leader' && kind !== 'move-replica') return false;
      if (!keys.has(partitionKey(Number(input.tid), Number(input.pid)))) return false;
      // A move from another follower changes no leader.
      if (status !== 'running' || input.from !== from || input.to !== to) return false;
      const partition = partitionOf(this.#ports.view(), Number(input.tid), Number(input.pid));
      return partition?.leader === from && replicaOn(partition, to)?.state === 'ready';
    });
  }
}
