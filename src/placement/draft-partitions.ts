import type { ClusterView, LoadView, Partition, TableId, TableRecord } from '../catalog/model.ts';
import { partitionKey, tableName } from '../catalog/view.ts';
import { must } from '../core/assert.ts';
import type { DraftNodes } from './draft-nodes.ts';

/** The partitions of a draft, numbered 0.. in the order of tid and pid: what no move changes. */
export class DraftPartitions {
  readonly tables: readonly TableRecord[];
  readonly records: readonly Partition[];

  /**
   * By partition. `frozen`: an operation is at it, or its table is being made or dropped; planned around,
   * never touched.
   */
  readonly table: Int32Array;
  readonly size: Float64Array;
  readonly frozen: Uint8Array;

  readonly #firstOfTable = new Map<TableId, number>();

  constructor(view: ClusterView, load: LoadView, nodes: DraftNodes, busy: ReadonlySet<string>) {
    this.tables = [...view.tables.values()].sort((a, b) => a.tid - b.tid);
    this.records = this.tables.flatMap((t) => t.partitions);
    const count = this.records.length;
    this.table = new Int32Array(count);
    this.size = new Float64Array(count);
    this.frozen = new Uint8Array(count);
    let p = 0;
    this.tables.forEach((table, t) => {
      this.#firstOfTable.set(table.tid, p);
      for (const { tid, pid, replicas } of table.partitions) {
        const key = partitionKey(tid, pid);
        this.table[p] = t;
        this.size[p] = load.partitionBytes.get(key) ?? 0;
        const isAt = replicas.some((r) => (r.state === 'joining' || r.state === 'leaving') && nodes.find(r.node) >= 0);
        this.frozen[p] = Number(table.state !== 'ready' || busy.has(key) || isAt);
        p++;
      }
    });
  }

  record(p: number): Partition {
    return must(this.records[p], 'partition');
  }

  tableOf(p: number): TableRecord {
    return must(this.tables[this.table[p] ?? -1], 'table');
  }

  /** The number of a partition: those of one table are in a row, by pid. */
  numberOf(partition: Partition): number {
    return must(this.#firstOfTable.get(partition.tid), 'table') + partition.pid;
  }

  /** `acct 4`: a partition in sentences. */
  name(p: number): string {
    return `${tableName(this.tableOf(p))} ${this.record(p).pid}`;
  }
}
