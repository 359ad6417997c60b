import type { ClusterView, LoadView, NodeId, NodeRecord } from '../catalog/model.ts';
import { connectedNodes } from '../catalog/view.ts';
import { must } from '../core/assert.ts';
import { Localities } from './localities.ts';

/** The nodes of a draft, numbered 0.. in the order of their ids: what no move changes. */
export class DraftNodes {
  readonly records: readonly NodeRecord[];
  readonly localities: Localities;

  /** By node. `takes`: may get replicas and leaders. `leaves`: decommissioning. `resigns`: must not lead. */
  readonly alive: Uint8Array;
  readonly takes: Uint8Array;
  readonly leaves: Uint8Array;
  readonly resigns: Uint8Array;

  readonly #numbers: ReadonlyMap<NodeId, number>;

  constructor(view: ClusterView, load: LoadView) {
    this.records = connectedNodes(view);
    this.localities = new Localities(this.records);
    this.#numbers = new Map(this.records.map((node, n) => [node.id, n]));
    this.alive = Uint8Array.from(this.records, (node) => Number(load.nodes.get(node.id)?.alive ?? false));
    this.leaves = Uint8Array.from(this.records, (node) => Number(node.state === 'decommissioning'));
    this.resigns = Uint8Array.from(this.records, (node) => Number(node.state !== 'active' || node.draining));
    this.takes = Uint8Array.from(this.records, (_, n) => Number(this.alive[n] === 1 && this.resigns[n] === 0));
  }

  number(id: NodeId): number {
    return must(this.#numbers.get(id), `node ${id}`);
  }

  /** The number of a node by its id; -1 for one that is not part of the cluster. */
  find(id: NodeId): number {
    return this.#numbers.get(id) ?? -1;
  }

  id(n: number): NodeId {
    return this.records[n]?.id ?? 0;
  }

  /** Nodes, in order of id, that may get replicas. */
  takers(): number[] {
    return [...this.takes.keys()].filter((n) => this.takes[n] === 1);
  }
}
