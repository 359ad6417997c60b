import type { ClusterView, NodeId, NodeRecord, Partition } from '../../../src/catalog/model.ts';
import { partitionTable } from '../../../src/catalog/names.ts';
import { replicaOn } from '../../../src/catalog/view.ts';
import { hasEnded } from '../../../src/operations/machine.ts';
import type { OperationRecord } from '../../../src/operations/operation.ts';
import { OPERATION_KINDS } from '../../../src/operations/registry.ts';
import type { Write } from '../../../src/store/meta-store.ts';
import type { SimWorld } from './world.ts';

/** Judges every write of the meta store: what may follow what, and how many moves there may be at once. */
export class Rules {
  readonly #world: SimWorld;
  /** The widest limits there were: a setting that is lowered does not stop what runs. */
  #atOnce = 0;
  #atNode = 0;
  /** When a node last ceased to be one that takes replicas, by the world's clock. */
  readonly #closed = new Map<NodeId, number>();

  constructor(world: SimWorld) {
    this.#world = world;
  }

  /** Asked before the mirror takes the write. */
  judge(write: Write): void {
    if (!('put' in write)) return;
    const { mirror } = this.#world;
    if (write.put.startsWith('/op/')) this.#operation(write.value as OperationRecord);
    if (write.put === '/catalog/settings') {
      const settings = write.value as ClusterView['settings'];
      this.#atOnce = Math.max(this.#atOnce, settings['move.concurrency']);
      this.#atNode = Math.max(this.#atNode, settings['move.concurrency_per_node']);
    }
    if (write.put.startsWith('/catalog/node/')) this.#node(write.value as NodeRecord);
    if (!write.put.startsWith('/catalog/partition/')) return;
    const next = write.value as Partition;
    const before = mirror.partition(next.tid, next.pid);
    if (before) this.#partition(before, next);
  }

  #operation(record: OperationRecord): void {
    const { mirror, say, count } = { ...bound(this.#world), mirror: this.#world.mirror };
    const before = mirror.operations.get(record.id);
    if (before?.status === record.status) return;
    if (!before || hasEnded(record)) {
      const why = record.error ? `: ${record.error.code} ${record.error.message}` : '';
      say(`op ${record.id} ${record.kind} ${record.subject}: ${record.status}${why}`);
    }
    if (hasEnded(record)) count(`${record.kind} ${record.status}`);
    if (before && hasEnded(before)) this.#world.problem(`operation ${record.id} goes on after its end`);
    if (before?.status === 'queued' && record.status === 'running') this.#admitted(record);
  }

  #admitted(record: OperationRecord): void {
    const { mirror } = this.#world;
    const active = [...mirror.operations.values()].filter(
      (r) => r.id !== record.id && !hasEnded(r) && r.status !== 'queued',
    );
    for (const node of movesOn(record)) {
      const there = active.filter((r) => movesOn(r).includes(node)).length + 1;
      if (there > this.#atNode) this.#world.problem(`${there} moves at node ${node}, of ${this.#atNode} allowed`);
    }
    const planned = active.filter((r) => r.parent !== null).length + (record.parent === null ? 0 : 1);
    if (planned > this.#atOnce) this.#world.problem(`${planned} planned moves at once, of ${this.#atOnce} allowed`);
  }

  #partition(before: Partition, next: Partition): void {
    const { world, name } = { world: this.#world, name: partitionTable(next.tid, next.pid) };
    if (next.epoch !== before.epoch + (next.leader === before.leader ? 0 : 1) && next.epoch !== before.epoch + 1)
      world.problem(`${name} goes from epoch ${before.epoch} to ${next.epoch}`);
    if (next.leader !== before.leader) {
      world.say(`${name}: n${before.leader} → n${next.leader}, epoch ${next.epoch}`);
      world.count('leaders changed');
    }
    const came = next.replicas.filter((r) => !replicaOn(before, r.node)).map((r) => r.node);
    for (const node of came) this.#came(name, node);
    const ready = next.replicas.filter((r) => r.state === 'ready').map((r) => r.node);
    if (ready.length === 0) world.problem(`${name} has no replica that counts`);
  }

  #node(next: NodeRecord): void {
    const before = this.#world.mirror.view.nodes.get(next.id);
    if (before && isOpen(before) && !isOpen(next)) this.#closed.set(next.id, this.#world.nowMs);
  }

  #came(name: string, node: NodeId): void {
    const record = this.#world.mirror.view.nodes.get(node);
    if (record && isOpen(record)) return;
    // Decided in the same instant: the decommission that has come first gives it away again.
    if (this.#closed.get(node) === this.#world.nowMs) return;
    this.#world.problem(`${name} gets a replica on n${node}, which is ${record?.outage ? 'out' : record?.state}`);
  }
}

const isOpen = (node: NodeRecord): boolean => node.state === 'active' && !node.outage;

function movesOn(record: OperationRecord): readonly NodeId[] {
  return OPERATION_KINDS.get(record.kind)?.movesOn(record.input) ?? [];
}

function bound(world: SimWorld) {
  return { say: (line: string) => world.say(line), count: (what: string) => world.count(what) };
}
