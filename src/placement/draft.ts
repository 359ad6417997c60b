import type { ClusterView, LoadView, NodeId, NodeRecord, Partition, TableId, TableRecord } from '../catalog/model.ts';
import { connectedNodes, partitionKey, replicaKey, tableName } from '../catalog/view.ts';
import { must } from '../core/assert.ts';
import { Localities } from './localities.ts';
import type { Blocked, Move, Stage } from './moves.ts';

export interface StagedMove {
  readonly stage: Stage;
  readonly move: Move;
}

/**
 * The placement a plan is working on: starts as the view, changes with every move that is planned, and counts
 * along.
 *
 * Nodes and partitions are numbered 0.. here, in the order of their ids: 100,000 partitions on 1,000 nodes
 * have to be planned within two seconds, and arrays of numbers do that where maps of records do not.
 */
export class Draft {
  readonly view: ClusterView;
  readonly nodes: readonly NodeRecord[];
  readonly tables: readonly TableRecord[];
  readonly partitions: readonly Partition[] = [];
  readonly localities: Localities;
  readonly moves: StagedMove[] = [];

  /** By node. `takes`: may get replicas and leaders. `leaves`: decommissioning. `resigns`: must not lead. */
  readonly alive: Uint8Array;
  readonly takes: Uint8Array;
  readonly leaves: Uint8Array;
  readonly resigns: Uint8Array;
  readonly replicas: Int32Array;
  readonly leaders: Int32Array;
  readonly bytes: Float64Array;
  /** Bytes a node can still take above the margin; infinite where the size of the disk is unknown. */
  readonly room: Float64Array;
  readonly held: readonly number[][];

  /**
   * By partition. `frozen`: an operation is at it, or its table is being made or dropped; planned around,
   * never touched.
   */
  readonly table: Int32Array;
  readonly size: Float64Array;
  readonly frozen: Uint8Array;
  readonly leader: Int32Array;
  readonly holders: number[][] = [];

  readonly #tableReplicas: Int32Array;
  readonly #tableLeaders: Int32Array;
  /**
   * Partitions that two nodes share, by pair: where it is 0, another shared partition widens the scatter of
   * both.
   */
  readonly #shared: Int32Array;
  readonly #notReady = new Set<number>();
  readonly #heldBack: LoadView['heldBack'];
  readonly #firstOfTable = new Map<TableId, number>();
  readonly #nodeIndex: ReadonlyMap<NodeId, number>;

  constructor(view: ClusterView, load: LoadView, busy: ReadonlySet<string> = new Set()) {
    this.view = view;
    this.nodes = connectedNodes(view);
    this.#heldBack = load.heldBack;
    this.#nodeIndex = new Map(this.nodes.map((n, i) => [n.id, i]));
    this.tables = [...view.tables.values()].sort((a, b) => a.tid - b.tid);
    this.localities = new Localities(this.nodes);
    const n = this.nodes.length;
    this.alive = Uint8Array.from(this.nodes, (node) => Number(load.nodes.get(node.id)?.alive ?? false));
    this.leaves = Uint8Array.from(this.nodes, (node) => Number(node.state === 'decommissioning'));
    this.resigns = Uint8Array.from(this.nodes, (node) => Number(node.state !== 'active' || node.draining));
    this.takes = Uint8Array.from(this.nodes, (_, i) => Number(this.alive[i] === 1 && this.resigns[i] === 0));
    this.replicas = new Int32Array(n);
    this.leaders = new Int32Array(n);
    this.bytes = new Float64Array(n);
    this.room = Float64Array.from(this.nodes, (node) => roomOf(view, load, node.id));
    this.held = this.nodes.map(() => []);
    this.#shared = new Int32Array(n * n);
    this.#tableReplicas = new Int32Array(this.tables.length * n);
    this.#tableLeaders = new Int32Array(this.tables.length * n);

    this.partitions = this.tables.flatMap((t) => t.partitions);
    const count = this.partitions.length;
    this.table = new Int32Array(count);
    this.size = new Float64Array(count);
    this.frozen = new Uint8Array(count);
    this.leader = new Int32Array(count).fill(-1);
    let p = 0;
    this.tables.forEach((table, t) => {
      this.#firstOfTable.set(table.tid, p);
      for (const partition of table.partitions) {
        const key = partitionKey(partition.tid, partition.pid);
        this.table[p] = t;
        this.size[p] = load.partitionBytes.get(key) ?? 0;
        this.frozen[p] = Number(table.state !== 'ready' || busy.has(key));
        this.#enter(p, partition);
        p++;
      }
    });
  }

  #enter(p: number, partition: Partition): void {
    const nodes: number[] = [];
    this.holders.push(nodes);
    for (const replica of partition.replicas) {
      const n = this.find(replica.node);
      // A table that is being made or dropped, frozen here, still names a node that was dropped for good.
      if (n < 0) continue;
      this.#hold(p, n, 1);
      nodes.push(n);
      if (replica.state === 'joining' || replica.state === 'leaving') this.frozen[p] = 1;
      if (replica.state !== 'ready') this.#notReady.add(p * this.nodes.length + n);
    }
    const leader = this.find(partition.leader);
    if (leader >= 0) this.#lead(p, leader);
  }

  node(id: NodeId): number {
    return must(this.#nodeIndex.get(id), `node ${id}`);
  }

  /** The number of a node by its id; -1 for one that is not part of the cluster. */
  find(id: NodeId): number {
    return this.#nodeIndex.get(id) ?? -1;
  }

  id(n: number): NodeId {
    return this.nodes[n]?.id ?? 0;
  }

  /** The number of a partition: those of one table are in a row, by pid. */
  numberOf(partition: Partition): number {
    return must(this.#firstOfTable.get(partition.tid), 'table') + partition.pid;
  }

  /** `acct 4`: a partition in sentences. */
  name(p: number): string {
    return `${tableName(this.tableOf(p))} ${this.partition(p).pid}`;
  }

  partition(p: number): Partition {
    return must(this.partitions[p], 'partition');
  }

  tableOf(p: number): TableRecord {
    return must(this.tables[this.table[p] ?? -1], 'table');
  }

  holdersOf(p: number): readonly number[] {
    return must(this.holders[p], 'partition');
  }

  heldBy(n: number): readonly number[] {
    return must(this.held[n], 'node');
  }

  holds(n: number, p: number): boolean {
    return this.holdersOf(p).includes(n);
  }

  /** Why a replica is not to be copied again yet. */
  heldBack(p: number, n: number): string | undefined {
    return this.#heldBack?.get(replicaKey(this.partition(p), this.id(n)));
  }

  isReady(p: number, n: number): boolean {
    return this.holds(n, p) && !this.#notReady.has(p * this.nodes.length + n);
  }

  /** Whether there is something to copy from. */
  hasLiveLeader(p: number): boolean {
    return this.alive[this.leader[p] ?? -1] === 1;
  }

  /** May be planned for: nobody's running operation, and a live leader to copy from. */
  isFree(p: number): boolean {
    return this.frozen[p] === 0 && this.hasLiveLeader(p);
  }

  tableReplicas(t: number, n: number): number {
    return this.#tableReplicas[t * this.nodes.length + n] ?? 0;
  }

  tableLeaders(t: number, n: number): number {
    return this.#tableLeaders[t * this.nodes.length + n] ?? 0;
  }

  /** Nodes, in order of id, that may get replicas. */
  takers(): number[] {
    return [...this.takes.keys()].filter((n) => this.takes[n] === 1);
  }

  /** How many of the partition's other holders already share a partition with `n`. */
  acquainted(n: number, p: number, leaving = -1): number {
    let known = 0;
    for (const other of this.holdersOf(p)) {
      if (other !== leaving && (this.#shared[n * this.nodes.length + other] ?? 0) > 0) known++;
    }
    return known;
  }

  // The five ways a placement changes. Each is journaled as a move and counted at once.

  addReplica(p: number, to: number, stage: Stage, reason: string): void {
    this.#attach(p, to);
    this.#plan(p, stage, { kind: 'add-replica', to: this.id(to), bytes: this.size[p] ?? 0, reason });
  }

  moveReplica(p: number, from: number, to: number, stage: Stage, reason: string): void {
    this.#attach(p, to);
    if (this.leader[p] === from) this.#lead(p, to);
    this.#detach(p, from);
    const bytes = this.size[p] ?? 0;
    this.#plan(p, stage, { kind: 'move-replica', from: this.id(from), to: this.id(to), bytes, reason });
  }

  removeReplica(p: number, from: number, stage: Stage, reason: string): void {
    this.#detach(p, from);
    this.#plan(p, stage, { kind: 'remove-replica', from: this.id(from), bytes: 0, reason });
  }

  resyncReplica(p: number, to: number, reason: string): void {
    this.#notReady.delete(p * this.nodes.length + to);
    this.#plan(p, 'repair', { kind: 'resync-replica', to: this.id(to), bytes: this.size[p] ?? 0, reason });
  }

  changeLeader(p: number, to: number, stage: Stage, reason: string): void {
    const from = this.leader[p] ?? -1;
    this.#lead(p, to);
    this.#plan(p, stage, { kind: 'change-leader', from: this.id(from), to: this.id(to), bytes: 0, reason });
  }

  #plan(p: number, stage: Stage, change: DistributiveOmit<Move, 'tid' | 'pid'>): void {
    const { tid, pid } = this.partition(p);
    this.moves.push({ stage, move: { tid, pid, ...change } as Move });
  }

  #attach(p: number, n: number): void {
    this.#hold(p, n, 1);
    must(this.holders[p], 'partition').push(n);
    this.room[n] = (this.room[n] ?? 0) - (this.size[p] ?? 0);
  }

  #detach(p: number, n: number): void {
    const holders = must(this.holders[p], 'partition');
    holders.splice(holders.indexOf(n), 1);
    this.#hold(p, n, -1);
    this.#notReady.delete(p * this.nodes.length + n);
    this.room[n] = (this.room[n] ?? 0) + (this.size[p] ?? 0);
  }

  #hold(p: number, n: number, sign: 1 | -1): void {
    const width = this.nodes.length;
    bump(this.replicas, n, sign);
    bump(this.bytes, n, sign * (this.size[p] ?? 0));
    bump(this.#tableReplicas, (this.table[p] ?? 0) * width + n, sign);
    for (const other of this.holdersOf(p)) {
      if (other === n) continue;
      bump(this.#shared, n * width + other, sign);
      bump(this.#shared, other * width + n, sign);
    }
    const held = must(this.held[n], 'node');
    if (sign === 1) {
      held.push(p);
      return;
    }
    const last = must(held.pop(), 'replica');
    if (last !== p) held[held.indexOf(p)] = last;
  }

  #lead(p: number, n: number): void {
    const before = this.leader[p] ?? -1;
    const row = (this.table[p] ?? 0) * this.nodes.length;
    if (before >= 0) {
      bump(this.leaders, before, -1);
      bump(this.#tableLeaders, row + before, -1);
    }
    this.leader[p] = n;
    bump(this.leaders, n, 1);
    bump(this.#tableLeaders, row + n, 1);
  }

  blocked(p: number, node: number, why: string, full: readonly NodeId[] = []): Blocked {
    const { tid, pid } = this.partition(p);
    return { tid, pid, node: node < 0 ? null : this.id(node), bytes: this.size[p] ?? 0, full, why };
  }
}

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

function bump(counts: Int32Array | Float64Array, index: number, by: number): void {
  counts[index] = (counts[index] ?? 0) + by;
}

/**
 * Bytes that `node` can take before its disk is fuller than `disk.margin` allows; may be negative; infinite
 * where unknown.
 */
export function roomOf(view: ClusterView, load: LoadView, node: NodeId): number {
  const disk = load.nodes.get(node);
  if (!disk || !(disk.diskTotalBytes > 0)) return Number.POSITIVE_INFINITY;
  return disk.diskFreeBytes - (disk.diskTotalBytes * view.settings['disk.margin']) / 100;
}
