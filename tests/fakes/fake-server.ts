import type { NodeId, Quorum, TableRecord } from '../../src/catalog/model.ts';
import { NO_QUORUM } from '../../src/catalog/quorum.ts';
import type { LocalData } from '../../src/core/local-data.ts';
import type { Blocker, HingeTarget } from '../../src/operations/ports.ts';

/**
 * Stands around every single change of a server: where a test fails it, loses its answer or kills the
 * manager.
 */
export type Effect = (label: string, change: () => void) => Promise<void>;

/** A row or a marker on its way. `seq` orders all that was ever written. */
export interface Sent {
  table: string | null;
  seq: number;
  atMs: number;
}

export interface Replica {
  guarded: boolean;
  rows: Set<number>;
  /** What the last row written or applied was: shows rows that arrive in the wrong order. */
  last: number;
}

export interface Sync {
  /** null: the copy has ended. */
  copiedAtMs: number | null;
  /** Rows up to here came with the copy. */
  since: number;
  copied: Replica | null;
  held: Sent[];
}

export interface Subscription {
  tables: Map<string, Sync>;
  /** Place of the last marker that has arrived. */
  marker: number;
  /** How far it has come in what the sender wrote. */
  applied: number;
  enabled: boolean;
  /** It has ended, and PostgreSQL does not begin it again: the receiver's clock has been set back. */
  stalled: boolean;
}

/** One stock PostgreSQL with what pgtide keeps in it. */
export class FakeServer {
  readonly id: NodeId;
  alive = true;
  /** Stopped in its tracks: connections stay open, and nothing comes back. */
  frozen = false;
  /** Lets the manager in, and nobody else. */
  fenced = false;
  bootstrapped = false;
  /** What it alone holds. */
  localData: LocalData[] = [];
  /** A receiver whose apply workers stand still. */
  lagging = false;
  readonly foreignServers = new Set<string>();
  readonly parents = new Map<number, TableRecord>();
  readonly replicas = new Map<string, Replica>();
  /** null: a hinge without a child, which hides its partition. */
  readonly hinges = new Map<string, HingeTarget | null>();
  readonly locked = new Set<string>();
  /** Foreign tables by name, each with the node whose server it uses. */
  readonly foreign = new Map<string, NodeId>();
  readonly publications = new Map<NodeId, Set<string>>();
  readonly slots = new Map<NodeId, Sent[]>();
  /** Slots of copies that have not ended. */
  readonly copySlots = new Set<string>();
  /** WAL that it keeps for whoever copies from it or follows it, bytes. */
  keptBytes = 0;
  readonly subscriptions = new Map<NodeId, Subscription>();
  readonly holders = new Map<string, Blocker[]>();
  readonly snapshots: (Blocker & { sinceMs: number })[] = [];
  writer: Blocker | null = null;
  quorum: Quorum = NO_QUORUM;
  /** Replica tables that take no writes. */
  readonly refused = new Set<string>();

  constructor(id: NodeId) {
    this.id = id;
  }

  get serves(): boolean {
    return this.alive && !this.fenced;
  }

  /** A client is answered. */
  get answers(): boolean {
    return this.serves && !this.frozen;
  }
}
