import type { NodeId, Quorum, TableRecord } from '../catalog/model.ts';
import type { LocalData } from '../core/local-data.ts';

/**
 * What operations ask of the servers, by what it is about. `postgres/data-plane.ts` does it on real ones.
 * Every call is idempotent and bounded in time.
 */
export interface DataPlane {
  readonly nodes: Nodes;
  readonly parents: Parents;
  readonly replicas: Replicas;
  readonly hinges: Hinges;
  readonly streams: Streams;
  readonly slots: Slots;
  readonly markers: Markers;
  readonly quorum: NodeQuorum;
  readonly sessions: Sessions;
}

/**
 * Where a hinge leads: to the replica on its own node, to another node's hinge, or straight to the new
 * leader's replica table.
 */
export type HingeTarget = { kind: 'local' } | { kind: 'node'; node: NodeId } | { kind: 'forward'; epoch: number };

/**
 * One try to swing a hinge. Whether or not it came through, statements on the partition waited `pauseMs` at
 * most.
 */
export interface SwingAttempt {
  outcome: 'done' | 'backed-off';
  pauseMs: number;
  /** Why it backed off: somebody's lock, a follower that did not catch up, or the budget ran out. */
  why?: 'lock' | 'lag' | 'timeout';
}

/** Somebody's transaction that an operation has to wait for. */
export interface Blocker {
  pid: number;
  user: string | null;
  query: string | null;
  state: string | null;
  /** `psql`, or `tide n3 pid 4711` for a statement that came through node 3. */
  application: string | null;
  ageMs: number;
}

export interface PartitionRef {
  tid: number;
  pid: number;
}

/** A node's database as a whole. */
export interface Nodes {
  /** Schemas, guard and DDL refusal. */
  bootstrap(node: NodeId): Promise<void>;
  /** The node reaches others, and receives from them, as the roles that are made for it. */
  useOwnRoles(node: NodeId): Promise<void>;
  /** One try to take clients the rights of a superuser (ADR 0012); else what is left, in words. */
  weakenClients(node: NodeId): Promise<'already' | 'done' | string>;
  /** What it holds that no other node has: ordinary tables with rows, and the like. */
  localData(node: NodeId): Promise<LocalData[]>;
}

/** The tables that users see. */
export interface Parents {
  create(node: NodeId, table: TableRecord): Promise<void>;
  exists(node: NodeId, table: TableRecord): Promise<boolean>;
  drop(node: NodeId, table: TableRecord): Promise<void>;
}

/** The tables with the rows. */
export interface Replicas {
  create(node: NodeId, table: TableRecord, pid: number): Promise<void>;
  exists(node: NodeId, ref: PartitionRef): Promise<boolean>;
  drop(node: NodeId, ref: PartitionRef, others?: 'are-ended'): Promise<void>;
  setGuard(node: NodeId, ref: PartitionRef, on: boolean, others?: 'are-ended'): Promise<void>;
  bytes(node: NodeId, ref: PartitionRef): Promise<number>;
  /** Every one on a node. */
  list(node: NodeId): Promise<PartitionRef[]>;
}

/** Where a partition is reached, and the servers through which it is reached on other nodes. */
export interface Hinges {
  read(node: NodeId, ref: PartitionRef): Promise<HingeTarget | null>;
  /** Every hinge on a node, by `t4_p0`. */
  readAll(node: NodeId): Promise<Map<string, HingeTarget>>;
  /**
   * Points a hinge elsewhere; `node` targets get their foreign table made first, and one that is left behind
   * goes.
   */
  point(
    node: NodeId,
    table: TableRecord,
    pid: number,
    to: HingeTarget,
    budgetMs: number,
    others?: 'are-ended',
  ): Promise<SwingAttempt>;
  /**
   * The swing of a change of leader (docs/spec/moves.md): after it, `ref` is led elsewhere. `followers`: all
   * that have to have every row before it.
   */
  swing(
    source: NodeId,
    ref: PartitionRef,
    swing: { epoch: number; followers: readonly NodeId[]; budgetMs: number },
  ): Promise<SwingAttempt>;
  createForward(from: NodeId, to: NodeId, table: TableRecord, pid: number, epoch: number): Promise<void>;
  dropForward(from: NodeId, ref: PartitionRef, epoch: number): Promise<void>;
  /** Drops the forwards of changes of leader that never came through or were not cleaned up. */
  dropLooseForwards(node: NodeId): Promise<void>;
  /** The server through which `from` reaches `to`. */
  ensureServer(from: NodeId, to: NodeId): Promise<void>;
  dropServer(from: NodeId, to: NodeId): Promise<void>;
}

/** One stream per ordered pair of nodes: a publication on `from`, a subscription on `to`. */
export interface Streams {
  /**
   * Makes it. One that was cut or has lost its slot is made anew, with no table in it; false, and nothing
   * done, where `isCounted` says that a replica which it fed still counts: what is missing there would never
   * be noticed.
   */
  connect(from: NodeId, to: NodeId, isCounted: () => boolean): Promise<boolean>;
  /** Takes both sides away; one that is `gone` is not asked. */
  disconnect(from: NodeId, to: NodeId, gone?: NodeId): Promise<void>;
  /** Asks the receiver; a stream that was cut is none. */
  exists(from: NodeId, to: NodeId): Promise<boolean>;
  /** Asks both sides: a stream that has lost its slot brings nothing any more. */
  isWhole(from: NodeId, to: NodeId): Promise<boolean>;
  /** Every replica table that `from` sends to `to`, whether or not it is received there. */
  published(from: NodeId, to: NodeId): Promise<PartitionRef[]>;
  /** Every replica table that flows from one node to the other, or is being copied, by `t4_p0`. */
  states(from: NodeId, to: NodeId): Promise<Map<string, 'copying' | 'ready'>>;
  /** `none`: not in the stream. `copying`: its rows are on the way. `ready`: it flows. */
  state(from: NodeId, to: NodeId, ref: PartitionRef): Promise<'none' | 'copying' | 'ready'>;
  start(from: NodeId, to: NodeId, refs: readonly PartitionRef[], copy: boolean): Promise<void>;
  stop(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void>;
  /** Only the sender's side: for a receiver that does not answer. */
  stopSending(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void>;
  /**
   * Ends what `to` receives from `from`, which is down, and keeps the stream: gives how far it has applied
   * what `from` wrote, a position in that server's WAL (bytes), null where there is no stream.
   */
  cut(from: NodeId, to: NodeId): Promise<number | null>;
  /** Lets a stream that was cut go on where it was; false where it has lost its slot, or is not there. */
  resume(from: NodeId, to: NodeId): Promise<boolean>;
  /**
   * The same stream under a new identity, going on where it was, for one that PostgreSQL does not begin again
   * by itself. A copy that it carried has to begin anew. False where somebody reads it, or it is cut.
   */
  renew(from: NodeId, to: NodeId): Promise<boolean>;
  /**
   * Drops a node's slots and publications: what it has not sent is never sent. Its streams are made anew by
   * `connect`.
   */
  dropSenders(node: NodeId): Promise<void>;
}

/** What a sender keeps its WAL for. */
export interface Slots {
  /** The slot on `from` with which a replica is copied to `to`; both have to answer. */
  ofCopy(from: NodeId, to: NodeId, ref: PartitionRef): Promise<string>;
  /** WAL that `from` keeps for its stream to `to` and for a copy there, bytes. Asks `from` only. */
  keptWal(from: NodeId, to: NodeId, copySlot: string | null): Promise<number>;
  /** Ends whoever reads a slot and drops it, and lets the server remove the WAL that it kept. */
  drop(node: NodeId, slot: string): Promise<void>;
}

/** Whether what a node wrote before has come to another. */
export interface Markers {
  write(node: NodeId): Promise<string>;
  /** False where the marker has not come to `at` in this time. */
  arrives(at: NodeId, from: NodeId, value: string, timeoutMs: number): Promise<boolean>;
}

/** What a node's commits wait for, and what takes no writes because nobody is left to wait for. */
export interface NodeQuorum {
  /** As it is now; null where somebody has set something that is not pgtide's. */
  read(node: NodeId): Promise<Quorum | null>;
  /**
   * Comes back when every commit and every follower's answer is judged by it. Throws QUORUM_NOT_TAKEN where
   * that takes too long.
   */
  set(node: NodeId, quorum: Quorum): Promise<void>;
  /**
   * Replica tables that refuse all writes, by `t4_p0`. `off`: something is left of a refusal that is over.
   */
  refusals(node: NodeId): Promise<Map<string, 'on' | 'off'>>;
  /**
   * From here on every write to the replica fails, and none that was begun before is open or can be
   * acknowledged any more: who waits for a quorum is ended. Throws where somebody's transaction is in the
   * way. `table`: its name for the client.
   */
  refuseWrites(node: NodeId, ref: PartitionRef, table: string): Promise<void>;
  takeWrites(node: NodeId, ref: PartitionRef): Promise<void>;
}

/** Whose transactions are in the way. */
export interface Sessions {
  lockHolders(node: NodeId, ref: PartitionRef): Promise<Blocker[]>;
  /**
   * Ends the sessions that hold a lock on the partition here: for a hinge that leads to a dead node, where
   * they cannot get anywhere. And apply workers that hold one: they may be waiting for the rest of a
   * transaction from a node that was cut off, and begin it anew.
   */
  endHolders(node: NodeId, ref: PartitionRef): Promise<void>;
  oldestWriter(node: NodeId): Promise<Blocker | null>;
  /** Divides the snapshots taken on a node before now from those taken after. */
  snapshotMark(node: NodeId): Promise<string>;
  /** Sessions that look at the node with a snapshot from before the mark. */
  olderSnapshots(node: NodeId, mark: string): Promise<Blocker[]>;
}
