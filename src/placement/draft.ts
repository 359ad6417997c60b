import type { ClusterView, LoadView, NodeId } from '../catalog/model.ts';
import { replicaKey } from '../catalog/view.ts';
import { DraftLeaders } from './draft-leaders.ts';
import { DraftNodes } from './draft-nodes.ts';
import { DraftPartitions } from './draft-partitions.ts';
import { DraftReplicas } from './draft-replicas.ts';
import type { Blocked, Move, Stage } from './moves.ts';

export interface StagedMove {
  readonly stage: Stage;
  readonly move: Move;
}

/**
 * The placement a plan is working on: starts as the view, changes with every move that is planned, and counts
 * along.
 *
 * Nodes and partitions are numbered 0.. here, in the order of their ids: 100,000 partitions on 1,000 nodes
 * have to be planned within two seconds, and arrays of numbers do that where maps of records do not.
 */
export class Draft {
  readonly view: ClusterView;
  readonly nodes: DraftNodes;
  readonly partitions: DraftPartitions;
  readonly replicas: DraftReplicas;
  readonly leaders: DraftLeaders;
  readonly moves: StagedMove[] = [];
  readonly #heldBack: LoadView['heldBack'];

  constructor(view: ClusterView, load: LoadView, busy: ReadonlySet<string> = new Set()) {
    this.view = view;
    this.nodes = new DraftNodes(view, load);
    this.partitions = new DraftPartitions(view, load, this.nodes, busy);
    this.replicas = new DraftReplicas(view, load, this.nodes, this.partitions);
    this.leaders = new DraftLeaders(this.nodes, this.partitions);
    this.#heldBack = load.heldBack;
  }

  /** Why a replica is not to be copied again yet. */
  heldBack(p: number, n: number): string | undefined {
    return this.#heldBack?.get(replicaKey(this.partitions.record(p), this.nodes.id(n)));
  }

  /** Whether there is something to copy from. */
  hasLiveLeader(p: number): boolean {
    return this.nodes.alive[this.leaders.of[p] ?? -1] === 1;
  }

  /** May be planned for: nobody's running operation, and a live leader to copy from. */
  isFree(p: number): boolean {
    return this.partitions.frozen[p] === 0 && this.hasLiveLeader(p);
  }

  blocked(p: number, node: number, why: string, full: readonly NodeId[] = []): Blocked {
    const { tid, pid } = this.partitions.record(p);
    return { tid, pid, node: node < 0 ? null : this.nodes.id(node), bytes: this.#size(p), full, why };
  }

  // The five ways a placement changes. Each is journaled as a move and counted at once.

  addReplica(p: number, to: number, stage: Stage, reason: string): void {
    this.replicas.add(p, to);
    this.#plan(p, stage, { kind: 'add-replica', to: this.nodes.id(to), bytes: this.#size(p), reason });
  }

  moveReplica(p: number, from: number, to: number, stage: Stage, reason: string): void {
    this.replicas.add(p, to);
    if (this.leaders.of[p] === from) this.leaders.change(p, to);
    this.replicas.remove(p, from);
    const between = { from: this.nodes.id(from), to: this.nodes.id(to) };
    this.#plan(p, stage, { kind: 'move-replica', ...between, bytes: this.#size(p), reason });
  }

  removeReplica(p: number, from: number, stage: Stage, reason: string): void {
    this.replicas.remove(p, from);
    this.#plan(p, stage, { kind: 'remove-replica', from: this.nodes.id(from), bytes: 0, reason });
  }

  resyncReplica(p: number, to: number, reason: string): void {
    this.replicas.makeReady(p, to);
    this.#plan(p, 'repair', { kind: 'resync-replica', to: this.nodes.id(to), bytes: this.#size(p), reason });
  }

  changeLeader(p: number, to: number, stage: Stage, reason: string): void {
    const between = { from: this.nodes.id(this.leaders.of[p] ?? -1), to: this.nodes.id(to) };
    this.leaders.change(p, to);
    this.#plan(p, stage, { kind: 'change-leader', ...between, bytes: 0, reason });
  }

  #size(p: number): number {
    return this.partitions.size[p] ?? 0;
  }

  #plan(p: number, stage: Stage, change: DistributiveOmit<Move, 'tid' | 'pid'>): void {
    const { tid, pid } = this.partitions.record(p);
    this.moves.push({ stage, move: { tid, pid, ...change } as Move });
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
