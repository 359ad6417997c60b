import { applyChange, type CatalogChange, type Touched } from '../catalog/change.ts';
import type { ClusterView, NodeRecord, Partition, StartMode, TableRecord } from '../catalog/model.ts';
import { defaultSettings } from '../catalog/settings.ts';
import { partitionKey } from '../catalog/view.ts';
import { assert } from '../core/assert.ts';
import { KeyedMutex } from '../core/mutex.ts';
import {
  CLUSTER_KEY,
  FORMAT_KEY,
  type MetaStore,
  MIGRATION_KEY,
  ROLES_FORMAT,
  type Write,
} from '../store/meta-store.ts';

/** The view's revision, written with every change: whoever has not seen the newest one is refused. */
const VERSION = '/catalog/version';
const SETTINGS = '/catalog/settings';
const SEQUENCE = '/catalog/sequence';
const nodeKey = (id: number) => `/catalog/node/${id}`;
const tableKey = (tid: number) => `/catalog/table/${tid}`;
const partKey = (key: string) => `/catalog/partition/${key}`;

const OVERTAKEN = 'the catalog was written by another manager';

/** `changes`: what has made the view of the one before; none where only the store's format has changed. */
export type CatalogListener = (view: ClusterView, changes: readonly CatalogChange[]) => void;

type StoredTable = Omit<TableRecord, 'partitions'>;

/**
 * The catalog in the meta store: one immutable view in memory, written through in one transaction per change.
 */
export class CatalogStore {
  readonly #store: MetaStore;
  readonly #overtaken: (why: string) => void;
  readonly #writers = new KeyedMutex();
  readonly #listeners: CatalogListener[] = [];
  #sequence: { node: number; table: number };
  #view: ClusterView;
  /** The meta store's, of VERSION. */
  #version: number;

  private constructor(
    store: MetaStore,
    overtaken: (why: string) => void,
    view: ClusterView,
    sequence: { node: number; table: number },
    version: number,
  ) {
    this.#store = store;
    this.#overtaken = overtaken;
    this.#version = version;
    this.#view = view;
    this.#sequence = sequence;
  }

  /**
   * Writes the facts of a cluster that begins, unless there is one. `founder`: HOST:PORT of its first node,
   * where several could be that.
   */
  static async initialise(
    store: MetaStore,
    facts: { clusterId: string; startMode: StartMode; minNodes?: number; founder?: string },
  ): Promise<void> {
    const single = facts.startMode === 'start-single-replica';
    // A single-replica cluster loses data with any node anyway: three nodes would protect nothing, and old
    // data stays where it is.
    const settings = defaultSettings({
      'rebalance.auto': !single,
      min_nodes: facts.minNodes ?? (single ? 1 : 3),
    });
    await store.txn({
      when: [CLUSTER_KEY, MIGRATION_KEY].map((key) => ({ key, revision: 0 })),
      write: [
        { put: CLUSTER_KEY, value: { clusterId: facts.clusterId, startMode: facts.startMode, founder: facts.founder } },
        { put: SETTINGS, value: settings },
        { put: SEQUENCE, value: { node: 0, table: 0 } },
      ],
    });
  }

  /** Which cluster a store holds, and whether a node belongs to it yet; null where it holds none. */
  static async look(
    store: MetaStore,
  ): Promise<{ clusterId: string; founder: string | null; hasMembers: boolean } | null> {
    const found = await store.get(CLUSTER_KEY);
    if (found === null) return null;
    const { clusterId, founder = null } = found.value as { clusterId: string; founder?: string };
    return { clusterId, founder, hasMembers: (await store.range('/catalog/node/')).length > 0 };
  }

  /** `overtaken`: somebody else has written the catalog, and nothing is written through this any more. */
  static async open(store: MetaStore, overtaken: (why: string) => void = () => {}): Promise<CatalogStore> {
    const entries = await store.range('/catalog/');
    const format = (await store.get(FORMAT_KEY))?.value as { version: number } | undefined;
    const values = new Map(entries.map((e) => [e.key, e.value]));
    const under = <T>(prefix: string) => entries.filter((e) => e.key.startsWith(prefix)).map((e) => e.value as T);
    const partitions = under<Partition>('/catalog/partition/').sort((a, b) => a.pid - b.pid);
    const tables = under<StoredTable>('/catalog/table/').map((t): [number, TableRecord] => [
      t.tid,
      { ...t, partitions: partitions.filter((p) => p.tid === t.tid) },
    ]);
    const nodes = under<NodeRecord>('/catalog/node/').map((n): [number, NodeRecord] => [n.id, n]);
    const cluster = values.get(CLUSTER_KEY) as { clusterId: string; startMode: StartMode } | undefined;
    assert(cluster, 'the meta store holds a cluster');
    const version = entries.find((e) => e.key === VERSION);
    const view: ClusterView = {
      // Older programs did not say; what a store has counted since is more than they can have written.
      revision: (version?.value as number | null | undefined) ?? version?.revision ?? 0,
      clusterId: cluster.clusterId,
      startMode: cluster.startMode,
      nodes: new Map(nodes.sort(([a], [b]) => a - b)),
      tables: new Map(tables.sort(([a], [b]) => a - b)),
      // Settings that are newer than the store have their defaults.
      settings: { ...defaultSettings(), ...(values.get(SETTINGS) as object) },
      ...(format && format.version >= ROLES_FORMAT ? { ownRoles: true } : {}),
    };
    return new CatalogStore(
      store,
      overtaken,
      view,
      values.get(SEQUENCE) as { node: number; table: number },
      version?.revision ?? 0,
    );
  }

  get view(): ClusterView {
    return this.#view;
  }

  /** From now on, after every commit, before whoever commits goes on. */
  onChange(listener: CatalogListener): void {
    this.#listeners.push(listener);
  }

  /** Applies changes together: durable, or not at all. */
  async commit(changes: readonly CatalogChange[]): Promise<void> {
    await this.#writers.run('catalog', async () => {
      let view = this.#view;
      const touched: Touched = { nodes: new Set(), tables: new Set(), partitions: new Set(), settings: false };
      for (const change of changes) {
        const step = applyChange(view, change);
        view = step.view;
        for (const n of step.touched.nodes) touched.nodes.add(n);
        for (const t of step.touched.tables) touched.tables.add(t);
        for (const p of step.touched.partitions) touched.partitions.add(p);
        touched.settings ||= step.touched.settings;
      }
      await this.#write(writesFor(view, touched), this.#nextRevision);
      this.#show(view, changes);
    });
  }

  /** From here on no program opens the store that works as the clients' role. */
  async separateRoles(): Promise<void> {
    await this.#writers.run('catalog', async () => {
      await this.#write([{ put: FORMAT_KEY, value: { version: ROLES_FORMAT } }], this.#nextRevision);
      this.#show({ ...this.#view, ownRoles: true }, []);
    });
  }

  /** The next id of its kind, never given out again. */
  async nextId(kind: 'node' | 'table'): Promise<number> {
    return this.#writers.run('catalog', async () => {
      const next = { ...this.#sequence, [kind]: this.#sequence[kind] + 1 };
      await this.#write([{ put: SEQUENCE, value: next }], this.#view.revision);
      this.#sequence = next;
      return next[kind];
    });
  }

  get #nextRevision(): number {
    return this.#view.revision + 1;
  }

  #show(changed: ClusterView, changes: readonly CatalogChange[]): void {
    this.#view = { ...changed, revision: this.#nextRevision };
    for (const listener of this.#listeners) listener(this.#view, changes);
  }

  async #write(changes: Write[], viewRevision: number): Promise<void> {
    const when = [{ key: VERSION, revision: this.#version }];
    const write: Write[] = [...changes, { put: VERSION, value: viewRevision }];
    const { ok, revision } = await this.#store.txn({ when, write });
    if (!ok) this.#overtaken(OVERTAKEN);
    assert(ok, OVERTAKEN);
    this.#version = revision;
  }
}

function writesFor(view: ClusterView, touched: Touched): Write[] {
  const writes: Write[] = [];
  for (const id of touched.nodes) writes.push({ put: nodeKey(id), value: view.nodes.get(id) });
  for (const tid of touched.tables) {
    const table = view.tables.get(tid);
    if (!table) writes.push({ delete: tableKey(tid) });
    else {
      const { partitions: _, ...rest } = table;
      writes.push({ put: tableKey(tid), value: rest });
    }
  }
  const present = new Map<string, Partition>();
  for (const t of view.tables.values()) for (const p of t.partitions) present.set(partitionKey(p.tid, p.pid), p);
  for (const key of touched.partitions) {
    const partition = present.get(key);
    writes.push(partition ? { put: partKey(key), value: partition } : { delete: partKey(key) });
  }
  if (touched.settings) writes.push({ put: SETTINGS, value: view.settings });
  return writes;
}
