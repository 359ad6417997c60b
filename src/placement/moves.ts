import type { NodeId, OperationId, TableId } from '../catalog/model.ts';

/** What a planned move and a running one have in common. `bytes`: what it copies over the network. */
interface Common {
  readonly tid: TableId;
  readonly pid: number;
  readonly bytes: number;
  readonly reason: string;
}

/** One change of one partition; each kind is an operation of the same name. */
export type Move =
  | (Common & { readonly kind: 'add-replica'; readonly to: NodeId })
  /** Add on `to`, then remove on `from`. Where `from` leads, `to` leads afterwards. */
  | (Common & { readonly kind: 'move-replica'; readonly from: NodeId; readonly to: NodeId })
  | (Common & { readonly kind: 'remove-replica'; readonly from: NodeId; readonly bytes: 0 })
  /** The stale replica on `to` is copied again. */
  | (Common & { readonly kind: 'resync-replica'; readonly to: NodeId })
  | (Common & { readonly kind: 'change-leader'; readonly from: NodeId; readonly to: NodeId; readonly bytes: 0 });

/** A move that an operation carries out right now. */
export interface RunningMove {
  readonly operation: OperationId;
  readonly move: Move;
}

/**
 * `balance`: repair, drain of decommissioning nodes, spread and balance. `repair`: the first two only
 * (`rebalance.auto` off).
 */
export type Goal =
  | { readonly kind: 'balance' }
  | { readonly kind: 'repair' }
  /** The draining node leads nothing, and nobody misses what follows there; no replica leaves it. */
  | { readonly kind: 'cover'; readonly node: NodeId }
  /** What the drain of a node took from it comes back. */
  | { readonly kind: 'give-back'; readonly node: NodeId }
  /**
   * Back to the configuration that a cancelled decommission started from; keys are `partitionKey(tid, pid)`.
   */
  | { readonly kind: 'restore'; readonly placement: ReadonlyMap<string, WantedPlacement> };

export interface WantedPlacement {
  readonly leader: NodeId;
  readonly nodes: readonly NodeId[];
}

/** A replica that should be somewhere, and cannot. `why` counts the nodes by what speaks against them. */
export interface Blocked {
  readonly tid: TableId;
  readonly pid: number;
  /** Where the replica is that cannot leave, or that cannot be copied again; null where one is missing. */
  readonly node: NodeId | null;
  readonly bytes: number;
  /** Nodes that would take it if they had room. */
  readonly full: readonly NodeId[];
  readonly why: string;
}

export interface NodeBalance {
  readonly node: NodeId;
  readonly replicas: number;
  readonly leaders: number;
  readonly bytes: number;
}

/** Distance from the mean in percent of the mean, over the nodes that may hold replicas. */
export interface Deviation {
  readonly maxPercent: number;
  readonly avgPercent: number;
}

export interface Balance {
  /** All nodes that are not decommissioned, by id. */
  readonly nodes: readonly NodeBalance[];
  readonly replicas: Deviation;
  readonly leaders: Deviation;
  readonly bytes: Deviation;
}

export interface Plan {
  /** In the order in which they may start. */
  readonly moves: readonly Move[];
  readonly bytesMoved: number;
  /** Proven lower bound for any plan with the same outcome; see minimal.ts. */
  readonly bytesMinimal: number;
  readonly before: Balance;
  readonly after: Balance;
  readonly blocked: readonly Blocked[];
}

/** Stages of a plan. Later ones are computed for the outcome of earlier ones. */
export type Stage = 'repair' | 'drain' | 'spread' | 'balance' | 'lead' | 'restore';
