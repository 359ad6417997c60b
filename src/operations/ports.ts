import type { NodeId, Quorum, TableRecord } from '../catalog/model.ts';
import type { LocalData } from '../core/local-data.ts';

/**
 * What operations ask of the servers. `postgres/data-plane.ts` does it on real ones. Every call is idempotent
 * and bounded in time.
 */

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

export interface DataPlane {
  /** Schemas, guard and DDL refusal in a node's database. */
  bootstrap(node: NodeId): Promise<void>;
  /** `node` reaches others, and receives from them, as the roles that are made for it. */
  useOwnRoles(node: NodeId): Promise<void>;
  /** One try to take clients the rights of a superuser (ADR 0012); else what is left, in words. */
  weakenClients(node: NodeId): Promise<'already' | 'done' | string>;
  /** The server through which `from` reaches `to`. */
  ensureServer(from: NodeId, to: NodeId): Promise<void>;
  dropServer(from: NodeId, to: NodeId): Promise<void>;

  createParent(node: NodeId, table: TableRecord): Promise<void>;
  parentExists(node: NodeId, table: TableRecord): Promise<boolean>;
  dropParent(node: NodeId, table: TableRecord): Promise<void>;

  createReplica(node: NodeId, table: TableRecord, pid: number): Promise<void>;
  replicaExists(node: NodeId, ref: PartitionRef): Promise<boolean>;
  dropReplica(node: NodeId, ref: PartitionRef, others?: 'are-ended'): Promise<void>;
  setGuard(node: NodeId, ref: PartitionRef, on: boolean, others?: 'are-ended'): Promise<void>;
  replicaBytes(node: NodeId, ref: PartitionRef): Promise<number>;

  /**
   * Publication on `from` and subscription on `to`. A stream that was cut or has lost its slot is made anew,
   * with no table in it; false, and nothing done, where `isCounted` says that a replica which it fed still
   * counts: what is missing there would never be noticed.
   */
  connectPair(from: NodeId, to: NodeId, isCounted: () => boolean): Promise<boolean>;
  /** Asks the receiver; a stream that was cut is none. */
  hasStream(from: NodeId, to: NodeId): Promise<boolean>;
  /** Asks both sides: a stream that has lost its slot brings nothing any more. */
  isWhole(from: NodeId, to: NodeId): Promise<boolean>;
  /** Takes both away; a side that is `gone` is not asked. */
  disconnectPair(from: NodeId, to: NodeId, gone?: NodeId): Promise<void>;
  /** Every replica table that `from` sends to `to`, whether or not it is received there. */
  published(from: NodeId, to: NodeId): Promise<PartitionRef[]>;
  /** Every replica table that flows from one node to the other, or is being copied, by `t4_p0`. */
  streams(from: NodeId, to: NodeId): Promise<Map<string, 'copying' | 'ready'>>;
  /** `none`: not in the stream. `copying`: its rows are on the way. `ready`: it flows. */
  streamState(from: NodeId, to: NodeId, ref: PartitionRef): Promise<'none' | 'copying' | 'ready'>;
  startStreams(from: NodeId, to: NodeId, refs: readonly PartitionRef[], copy: boolean): Promise<void>;
  stopStream(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void>;
  /** Only the sender's side: for a receiver that does not answer. */
  stopSending(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void>;
  /** The slot on `from` with which a replica is copied to `to`; both have to answer. */
  copySlot(from: NodeId, to: NodeId, ref: PartitionRef): Promise<string>;
  /** WAL that `from` keeps for its stream to `to` and for a copy there, bytes. Asks `from` only. */
  keptWal(from: NodeId, to: NodeId, copySlot: string | null): Promise<number>;
  /** Ends whoever reads a slot and drops it, and lets the server remove the WAL that it kept. */
  dropSlot(node: NodeId, slot: string): Promise<void>;
  writeMarker(node: NodeId): Promise<string>;
  awaitMarker(at: NodeId, from: NodeId, value: string, timeoutMs: number): Promise<boolean>;

  readHinge(node: NodeId, ref: PartitionRef): Promise<HingeTarget | null>;
  /** Every hinge on a node, by `t4_p0`. */
  readHinges(node: NodeId): Promise<Map<string, HingeTarget>>;
  createForward(from: NodeId, to: NodeId, table: TableRecord, pid: number, epoch: number): Promise<void>;
  dropForward(from: NodeId, ref: PartitionRef, epoch: number): Promise<void>;
  /**
   * The swing (docs/spec/moves.md, M5): after it, `ref` is led elsewhere. `followers`: all that have to have
   * every row before it.
   */
  swingLeader(
    source: NodeId,
    ref: PartitionRef,
    swing: { epoch: number; followers: readonly NodeId[]; budgetMs: number },
  ): Promise<SwingAttempt>;
  /**
   * Points a hinge elsewhere; `node` targets get their foreign table made first, and one that is left behind
   * goes.
   */
  pointHinge(
    node: NodeId,
    table: TableRecord,
    pid: number,
    to: HingeTarget,
    budgetMs: number,
    others?: 'are-ended',
  ): Promise<SwingAttempt>;

  /**
   * Ends what `to` receives from `from`, which is down, and keeps the stream: gives how far it has applied
   * what `from` wrote, a position in that server's WAL (bytes), null where there is no stream.
   */
  cutStream(from: NodeId, to: NodeId): Promise<number | null>;
  /** Lets a stream that was cut go on where it was; false where it has lost its slot, or is not there. */
  resumeStream(from: NodeId, to: NodeId): Promise<boolean>;
  /**
   * The same stream under a new identity, going on where it was, for one that PostgreSQL does not begin again
   * by itself. A copy that it carried has to begin anew. False where somebody reads it, or it is cut.
   */
  renewStream(from: NodeId, to: NodeId): Promise<boolean>;
  /**
   * Drops a node's slots and publications: what it has not sent is never sent. Its streams are made anew by
   * `connectPair`.
   */
  dropSenders(node: NodeId): Promise<void>;
  /** What a node holds that no other node has: ordinary tables with rows, and the like. */
  localData(node: NodeId): Promise<LocalData[]>;
  /** Every replica table on a node. */
  listReplicas(node: NodeId): Promise<PartitionRef[]>;
  /** Drops the forwards of changes of leader that never came through or were not cleaned up. */
  dropLooseForwards(node: NodeId): Promise<void>;
  /**
   * Ends the sessions that hold a lock on the partition here: for a hinge that leads to a dead node, where
   * they cannot get anywhere. And apply workers that hold one: they may be waiting for the rest of a
   * transaction from a node that was cut off, and begin it anew.
   */
  endHolders(node: NodeId, ref: PartitionRef): Promise<void>;

  lockHolders(node: NodeId, ref: PartitionRef): Promise<Blocker[]>;
  /** Sessions that look at the node with a snapshot from before the mark. */
  olderSnapshots(node: NodeId, mark: string): Promise<Blocker[]>;
  oldestWriter(node: NodeId): Promise<Blocker | null>;
  /** Divides the snapshots taken on a node before now from those taken after. */
  snapshotMark(node: NodeId): Promise<string>;

  /** What commits on a node wait for now; null where somebody has set something that is not pgtide's. */
  readQuorum(node: NodeId): Promise<Quorum | null>;
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
  /**
   * Comes back when every commit and every follower's answer is judged by it. Throws QUORUM_NOT_TAKEN where
   * that takes too long.
   */
  setQuorum(node: NodeId, quorum: Quorum): Promise<void>;
}
