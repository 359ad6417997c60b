/**
 * Facts of the cluster as the meta store keeps them: plain data. Who changes it makes a new view
 * (`change.ts`).
 */

export type NodeId = number;
export type TableId = number;
export type OperationId = number;

/**
 * joining → active ⇄ decommissioning → decommissioned. Ids are never used again. `draining` (leaders away,
 * still a member) is a flag beside it; what it took away is in `drained` until it has been given back.
 */
export type NodeState = 'joining' | 'active' | 'decommissioning' | 'decommissioned';

/** One `key=value` of `--locality`, most general first, as in `region=eu,zone=a,rack=1`. */
export interface LocalityTier {
  readonly key: string;
  readonly value: string;
}

export interface NodeRecord {
  readonly id: NodeId;
  readonly state: NodeState;
  readonly draining: boolean;
  /** HOST:PORT others use for SQL and the admin API (`--advertise-addr`, default `--listen-addr`). */
  readonly address: string;
  /** HOST:PORT of the HTTP endpoint. */
  readonly httpAddress: string;
  /** Where this node's PostgreSQL listens for the other nodes. */
  readonly postgresHost: string;
  readonly postgresPort: number;
  readonly locality: readonly LocalityTier[];
  readonly attrs: readonly string[];
  readonly build: string;
  readonly startMode: StartMode;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  /**
   * Since it was found, or said, to be down: nothing is led from there, and it serves nobody until it has
   * been cleaned up.
   */
  readonly outage?: Outage;
  /**
   * Every quorum that a commit of its PostgreSQL may have been acknowledged under and that newer ones do not
   * cover yet: whoever leads in its place has to have seen what each of them let through. Absent: nothing was
   * ever waited for.
   */
  readonly quorums?: readonly Quorum[];
  readonly drained?: Drained;
  /**
   * Which start of its process it is: only what comes from that one is its word. Absent: it was last started
   * by version 0.1.
   */
  readonly start?: string;
  /** Somebody has said that what it alone holds, ordinary tables for example, may leave with it. */
  readonly mayTakeLocalTables?: true;
}

/**
 * What a node's commits wait for before they are acknowledged: a flush on any `count` of `nodes` (`ANY count
 * (…)` in `synchronous_standby_names`). A count of 0 waits for nobody.
 */
export interface Quorum {
  readonly count: number;
  /** Sorted. */
  readonly nodes: readonly NodeId[];
}

/** What a drain took from a node, for a planned stop, and brings back after it. */
export interface Drained {
  /**
   * Partitions that have no other replica to lead or to follow are left as they are: nobody waits for the
   * node while it is away.
   */
  readonly alone: boolean;
  /** What it led, as partitionKey. */
  readonly leaders: readonly string[];
  /** Copies that others hold for the time. */
  readonly copies: readonly { readonly tid: TableId; readonly pid: number; readonly node: NodeId }[];
}

/**
 * `operator`: somebody said so, and it comes back when somebody says so (`tide node offline`, `tide node
 * recover`).
 */
export interface Outage {
  readonly by: 'manager' | 'operator';
  /** Milliseconds since 1970. */
  readonly sinceMs: number;
  /** What it had acknowledged was promised to last, though `durability` has been set to async since. */
  readonly promised?: true;
}

export type StartMode = 'start' | 'start-single-replica';

/**
 * joining: being copied. ready: follows (or is) the leader. stale: missed rows, has to be copied again.
 * leaving: being removed.
 */
export type ReplicaState = 'joining' | 'ready' | 'stale' | 'leaving';

export interface Replica {
  readonly node: NodeId;
  readonly state: ReplicaState;
  /** Of a stale one, where it is known. */
  readonly why?: string;
}

export interface Partition {
  readonly tid: TableId;
  readonly pid: number;
  /** Raised at every change of leader. */
  readonly epoch: number;
  readonly leader: NodeId;
  /** Leader included; at most one per node; sorted by node id. */
  readonly replicas: readonly Replica[];
}

export type TableState = 'creating' | 'ready' | 'dropping';

export interface TableRecord {
  readonly tid: TableId;
  readonly schema: string;
  readonly name: string;
  readonly state: TableState;
  /** The distribution key: the column whose hash chooses the partition. */
  readonly distributeBy: string;
  readonly partitionCount: number;
  /** Wanted number of replicas per partition. */
  readonly replicaCount: number;
  /** SQL statements that make the table's parent on a node; see postgres/sql/table.ts. */
  readonly definition: TableDefinition;
  /** Indexed by pid. */
  readonly partitions: readonly Partition[];
}

/** A table's shape, read back from PostgreSQL after it has parsed the user's CREATE TABLE. */
export interface TableDefinition {
  readonly columns: readonly ColumnDefinition[];
  /** In key order; contains `distributeBy`. */
  readonly primaryKey: readonly string[];
  /** Name and `pg_get_constraintdef()` of CHECK constraints. */
  readonly checks: readonly { readonly name: string; readonly definition: string }[];
  /**
   * Secondary indexes and UNIQUE constraints, as what follows `CREATE [UNIQUE] INDEX name ON table`: `USING
   * btree (city)`.
   */
  readonly indexes: readonly {
    readonly unique: boolean;
    readonly definition: string;
    readonly columns?: readonly string[];
  }[];
}

export interface ColumnDefinition {
  readonly name: string;
  /** As `format_type()` prints it, with `COLLATE` where it is not the type's default. */
  readonly type: string;
  readonly notNull: boolean;
  readonly default: string | null;
}

export interface Settings {
  /**
   * `quorum`: an acknowledged commit is on disk on the leader and on a follower of its partition. `async`: on
   * the leader.
   */
  readonly durability: 'quorum' | 'async';
  /**
   * What writes do where a partition has followers and none of them is alive: wait for one, go on without, or
   * fail.
   */
  readonly quorum_lost: 'wait' | 'allow' | 'fail';
  /** Data comes by itself to a node that joins, and imbalance is repaired. */
  readonly 'rebalance.auto': boolean;
  /** Budget for one swing: lock and catch-up, milliseconds. */
  readonly 'move.max_pause': number;
  /**
   * What that grows to where swings fail again and again, milliseconds; where it is less, it does not grow.
   */
  readonly 'move.max_pause_limit': number;
  /** Fewest nodes a scale-in may leave. */
  readonly min_nodes: number;
  /** Moves that may run at once in the cluster, and that may touch one node. */
  readonly 'move.concurrency': number;
  readonly 'move.concurrency_per_node': number;
  /** A node that is proved to be down loses its leaders to their followers by itself. */
  readonly auto_failover: boolean;
  /** Seconds for which a node's lease of a shared meta store holds. */
  readonly 'node.lease': number;
  /** Seconds after which the replicas of a node that is down are made again elsewhere. */
  readonly 'node.dead_after': number;
  /** What one move may make its source keep of WAL, bytes. */
  readonly 'move.max_retained_wal': number;
  /** How far a follower may be behind before its leader keeps no more WAL for it, bytes. */
  readonly 'follower.max_retained_wal': number;
  /** Ended operations that are kept, and for how many seconds: one beyond either is forgotten. */
  readonly 'operations.keep_count': number;
  readonly 'operations.keep_for': number;
  /** Whether others may see the literals of somebody's statement. */
  readonly show_query_literals: boolean;
  /** Free share of a target's disk that no plan may use up, percent. */
  readonly 'disk.margin': number;
}

export type SettingValue = Settings[keyof Settings];

/**
 * The catalog at one revision, and nothing of the moment: what beats and measurements say comes beside it
 * (`LoadView`).
 */
export interface ClusterView {
  /**
   * Raised by one with every change, whoever manages: it goes along where the meta store moves, so of two
   * views one is known to be the newer.
   */
  readonly revision: number;
  readonly clusterId: string;
  readonly startMode: StartMode;
  readonly nodes: ReadonlyMap<NodeId, NodeRecord>;
  readonly tables: ReadonlyMap<TableId, TableRecord>;
  readonly settings: Settings;
  /**
   * Clients are no superusers, on no node or not for long: pgtide works as roles of its own. Absent while a
   * node may run a program before that.
   */
  readonly ownRoles?: true;
}

/** What heartbeats and size queries last said: never journaled, always a moment old. */
export interface NodeLoad {
  readonly node: NodeId;
  /** The process beat and its PostgreSQL answered within the liveness window. */
  readonly alive: boolean;
  readonly diskTotalBytes: number;
  readonly diskFreeBytes: number;
}

export interface LoadView {
  readonly nodes: ReadonlyMap<NodeId, NodeLoad>;
  /** Bytes of one copy of a partition, by `partitionKey(tid, pid)`; absent means unknown: taken as 0. */
  readonly partitionBytes: ReadonlyMap<string, number>;
  /**
   * Replicas that are not to be copied again yet, by `replicaKey`, and why: what was copied there before
   * could not be kept up.
   */
  readonly heldBack?: ReadonlyMap<string, string>;
}
