import type { ClusterView, NodeRecord, Partition, Settings, TableRecord } from '../../../src/catalog/model.ts';
import { partitionKey } from '../../../src/catalog/view.ts';
import type { OperationRecord } from '../../../src/operations/operation.ts';
import { fromStored } from '../../../src/operations/stored.ts';
import type { Write } from '../../../src/store/meta-store.ts';

/**
 * What the meta store says, read along with every write: what the rules judge by, whether or not a manager
 * runs.
 */
export class Mirror {
  readonly operations = new Map<number, OperationRecord>();
  readonly #nodes = new Map<string, NodeRecord>();
  readonly #tables = new Map<string, Omit<TableRecord, 'partitions'>>();
  readonly #partitions = new Map<string, Partition>();
  #settings: Settings | null = null;
  #view: ClusterView | null = null;

  /** The store begins anew with these: what was written after they were read is gone. */
  begin(entries: readonly { key: string; value: unknown }[]): void {
    for (const map of [this.operations, this.#nodes, this.#tables, this.#partitions]) map.clear();
    for (const { key, value } of entries) this.take({ put: key, value });
  }

  take(write: Write): void {
    const key = 'put' in write ? write.put : write.delete;
    const value = 'put' in write ? write.value : undefined;
    const [, area = '', kind = '', ...rest] = key.split('/');
    if (area === 'op' && value === undefined) this.operations.delete(Number(kind));
    else if (area === 'op') this.operations.set(Number(kind), fromStored(value));
    if (area !== 'catalog') return;
    this.#view = null;
    if (kind === 'settings') this.#settings = value as Settings;
    const into = { node: this.#nodes, table: this.#tables, partition: this.#partitions }[kind] as
      | Map<string, unknown>
      | undefined;
    if (value === undefined) into?.delete(rest.join('/'));
    else into?.set(rest.join('/'), value);
  }

  partition(tid: number, pid: number): Partition | undefined {
    return this.#partitions.get(partitionKey(tid, pid));
  }

  get view(): ClusterView {
    this.#view ??= {
      revision: 0,
      clusterId: 'sim',
      startMode: 'start',
      nodes: new Map([...this.#nodes.values()].sort((a, b) => a.id - b.id).map((n) => [n.id, n])),
      tables: new Map([...this.#tables.values()].map((t) => [t.tid, { ...t, partitions: this.#partitionsOf(t.tid) }])),
      settings: this.#settings as Settings,
    };
    return this.#view;
  }

  #partitionsOf(tid: number): Partition[] {
    return [...this.#partitions.values()].filter((p) => p.tid === tid).sort((a, b) => a.pid - b.pid);
  }
}
