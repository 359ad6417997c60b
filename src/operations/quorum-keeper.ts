import type { CatalogChange } from '../catalog/change.ts';
import type { ClusterView, NodeId, Quorum } from '../catalog/model.ts';
import {
  NO_QUORUM,
  type QuorumDemand,
  quorumsOf,
  sameQuorum,
  syncTransitions,
  wantedQuorum,
} from '../catalog/quorum.ts';
import { connectedNodes } from '../catalog/view.ts';
import { messageOf } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import type { OperationRecord } from './operation.ts';
import type { DataPlane } from './ports.ts';

/** A follower that is later than this holds up nobody: the earlier quorums stay known meanwhile. */
const COVER_MS = 1_000;

export interface QuorumPorts {
  plane: DataPlane;
  view(): ClusterView;
  alive(node: NodeId): boolean;
  /** Operations that have not ended: what they demand is in their `data.demands`. */
  running(): OperationRecord[];
  commit(changes: CatalogChange[]): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/**
 * Keeps what every node's commits wait for (DESIGN 3) as the catalog, liveness and running operations want it. The only one that sets it, one
 * change at a time per node, and what is wanted is worked out inside that turn: an older wish cannot overwrite a newer one.
 */
export class QuorumKeeper {
  readonly #ports: QuorumPorts;
  readonly #turns = new KeyedMutex();
  readonly #atWork = new Map<NodeId, Promise<void>>();
  readonly #demanded = new Set<readonly QuorumDemand[]>();

  constructor(ports: QuorumPorts) {
    this.#ports = ports;
  }

  /** Comes back when the node's quorum is what was wanted at the time of the call, or later. Throws what its server throws. */
  async settle(node: NodeId): Promise<void> {
    const { plane, view, alive } = this.#ports;
    await this.#turns.run(String(node), async () => {
      const demands = [...demandsOf(this.#ports.running()), ...[...this.#demanded].flat()];
      const wanted = wantedQuorum(view(), node, alive, demands);
      const observed = await plane.readQuorum(node);
      // A list that somebody made for standbys of their own stays, as long as nothing has to be protected here.
      if (observed === null && wanted.count === 0) return;
      // Known before the first commit waits for it: a node that dies in the middle is judged by the old and the new one.
      if (!quorumsOf(view(), node).some((q) => sameQuorum(q, wanted)))
        await this.#record(node, [...quorumsOf(view(), node), wanted]);
      for (const next of syncTransitions(observed ?? NO_QUORUM, wanted)) await plane.setQuorum(node, next);
      if (quorumsOf(view(), node).length > 1 && (await this.#covers(node, wanted))) await this.#record(node, [wanted]);
    });
  }

  async #record(node: NodeId, quorums: Quorum[]): Promise<void> {
    await this.#ports.commit([{ kind: 'quorums-put', node, quorums }]);
  }

  /**
   * Whether all that was acknowledged under earlier quorums is where this one would have had it: true when what was written after them has
   * arrived at as many nodes as it asks for. If not now, a later round looks again.
   */
  async #covers(node: NodeId, { count, nodes }: Quorum): Promise<boolean> {
    if (count === 0) return true;
    const { plane, alive } = this.#ports;
    const marker = await plane.writeMarker(node);
    const arrivals = nodes.filter(alive).map((n) => plane.awaitMarker(n, node, marker, COVER_MS).catch(() => false));
    return (await Promise.all(arrivals)).filter(Boolean).length >= count;
  }

  /**
   * Does `work` while a node's commits wait for what is demanded beside everything else: for who is about to be no follower any more, and no
   * operation. A crash forgets the demands, and with them nothing that `work` had not done.
   */
  async demanding(node: NodeId, demands: readonly QuorumDemand[], work: () => Promise<void>): Promise<void> {
    this.#demanded.add(demands);
    try {
      await this.settle(node);
      await work();
    } finally {
      this.#demanded.delete(demands);
    }
  }

  /** Settles every live node; one that is still at it from an earlier round is left alone, and holds up no other. */
  round(): void {
    for (const { id, state } of connectedNodes(this.#ports.view())) {
      if (state === 'joining' || !this.#ports.alive(id) || this.#atWork.has(id)) continue;
      const work = this.settle(id)
        .catch((error) => {
          this.#ports.log('warn', 'the quorum could not be set', { node: id, error: messageOf(error) });
        })
        .finally(() => this.#atWork.delete(id));
      this.#atWork.set(id, work);
    }
  }

  /** Until the rounds that were begun have ended. */
  async idle(): Promise<void> {
    await Promise.all(this.#atWork.values());
  }
}

function demandsOf(running: readonly OperationRecord[]): QuorumDemand[] {
  return running.flatMap((r) => (r.data.demands as QuorumDemand[] | undefined) ?? []);
}
