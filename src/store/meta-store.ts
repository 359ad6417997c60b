/**
 * The meta store: cluster facts and the journal. Keys are paths, values JSON. Every write raises the store's
 * revision by one, and each key remembers the revision that wrote it, so that a writer who decided on old
 * facts is refused (compare etcd's `mod_revision`).
 */
export interface MetaStore {
  get(key: string): Promise<Entry | null>;
  /** All entries whose key starts with `prefix`, in key order, as they were at one moment. */
  range(prefix: string): Promise<Entry[]>;
  /**
   * Applies all of `write` at once if every condition of `when` holds; durable when it returns. Throws
   * META_FULL where its disk has no room: then nothing was written, and the same call works once there is
   * some. Throws META_UNWRITABLE where the disk fails although it has room.
   */
  txn(request: { when: Condition[]; write: Write[] }): Promise<{ ok: boolean; revision: number }>;
  /** The last transaction found no room; true until one does. */
  readonly isFull: boolean;
  close(): Promise<void>;
}

/**
 * Format of the catalog and the journal. Raised when an older program would misread what a newer one writes;
 * what is only added, and may be left out, keeps it. Each format has its step in MIGRATIONS (`format.ts`) and
 * its dump of a real store in tests/fixtures/formats.
 */
export const META_FORMAT = 3;
/**
 * From this format on clients of the cluster are no superusers. Programs before it work as their role, so a
 * store gets there when no node runs one any more (`manager/role-keeper.ts`), not when a newer program opens
 * it.
 */
export const ROLES_FORMAT = 3;

export const FORMAT_KEY = '/format';

/** Where the facts of the cluster itself are; a store without it holds none. */
export const CLUSTER_KEY = '/catalog/cluster';
/** Marks a copy that is not one yet (`migration.ts`). */
export const MIGRATION_KEY = '/migration';

/**
 * A store that several processes share: who goes on living says so with a lease, whose keys go when it runs
 * out.
 */
export interface SharedStore extends MetaStore {
  /** The id of a new lease of `ttlMs`. The store may give it longer, never less. */
  grant(ttlMs: number): Promise<string>;
  /** Begins the lease's time anew; false where it has run out. */
  keepAlive(lease: string): Promise<boolean>;
  /** Ends the lease with its keys. Idempotent. */
  revoke(lease: string): Promise<void>;
}

export interface Entry {
  key: string;
  value: unknown;
  revision: number;
}

/** The key was last written at `revision`; 0: it does not exist. */
export interface Condition {
  key: string;
  revision: number;
}

/** `lease`: the key lives as long as that, in a store that has leases. */
export type Write = { put: string; value: unknown; lease?: string } | { delete: string };
