import type { NodeId, TableDefinition } from '../catalog/model.ts';
import type { SlotState } from '../catalog/retention.ts';
import type { LocalData } from '../core/local-data.ts';

/** The meta store where several nodes share it, any of which may manage. */
export interface SharedAuthority {
  url: string;
  /** Higher than that of every manager before. */
  term: number;
  /** Milliseconds for which nobody else can manage. */
  leftMs(): number;
  /** `gone`: the node lets nobody in. `none`: it has not come to need a lease yet. */
  leaseOf(node: NodeId): Promise<'held' | 'gone' | 'none'>;
  /** The nodes that reach the store. */
  leased(): Promise<NodeId[]>;
}

/**
 * What the manager reads from the servers beside what operations do there. `postgres/inspector.ts` does it on
 * real ones.
 */
export interface Inspector {
  /** Waits for no lock that anybody holds: what is locked is estimated (`isExact` false). Bounded. */
  sizes(node: NodeId): Promise<{ tid: number; pid: number; bytes: number; rows: number; isExact: boolean }[]>;
  /** How far each receiver has replayed this node's WAL, by subscription name. */
  lag(node: NodeId): Promise<Map<string, { replayLsn: string; lagBytes: number }>>;
  /** Its logical replication slots, those of table copies included. */
  slots(node: NodeId): Promise<Map<string, SlotState>>;
  /** What it is to receive, by subscription name. */
  received(node: NodeId): Promise<Map<string, ReceivedStream>>;
  /** What a table called so would collide with on a node, as `view items`; null where the name is free. */
  nameTaken(node: NodeId, schema: string, name: string): Promise<string | null>;
  inspectTable(node: NodeId, sql: string, distributeBy: string | undefined): Promise<InspectedTable>;
  inventory(node: NodeId): Promise<Inventory>;
  /** What it holds that no other node has. Throws NODE_UNREACHABLE. */
  localData(node: NodeId): Promise<LocalData[]>;
  /**
   * What a TCP connection to its PostgreSQL meets: `refused` proves that nothing listens there, `silent`
   * proves nothing.
   */
  knock(node: NodeId): Promise<'accepts' | 'refused' | 'silent'>;
  remove(node: NodeId, kind: InventoryKind, name: string): Promise<void>;
}

/**
 * A stream as its receiver sees it: whether PostgreSQL runs it now, and how often applying or copying has
 * failed.
 */
export interface ReceivedStream {
  runs: boolean;
  failures: number;
}

/**
 * A table as pgtide will make it on every node, read back from PostgreSQL after it has understood the user's
 * statement.
 */
export interface InspectedTable {
  schema: string;
  name: string;
  distributeBy: string;
  definition: TableDefinition;
}

export type InventoryKind =
  | 'publication'
  | 'published-table'
  | 'subscription'
  | 'slot'
  | 'origin'
  | 'replica-table'
  | 'foreign-table'
  | 'server'
  | 'parent';

/**
 * Everything of pgtide's kind on a server, by name; `published-table` is `publication.table`, `parent` is the
 * tid.
 */
export type Inventory = Record<InventoryKind, string[]>;
