import type { BeatAnswer, BeatReport, StartRequest, WhoAmI } from '../api/membership.ts';
import type { CatalogChange } from '../catalog/change.ts';
import type { ClusterView, NodeId, NodeRecord } from '../catalog/model.ts';
import type { Clock } from '../core/clock.ts';
import { type TideError, tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import { type Claim, standingOf } from '../core/starts.ts';
import type { ClusterLoad } from './cluster-load.ts';
import { nodeById } from './lookups.ts';
import type { Condition } from './outage-watch.ts';

export interface AdmissionPorts {
  clock: Clock;
  view(): ClusterView;
  commit(changes: readonly CatalogChange[]): Promise<void>;
  load: Pick<ClusterLoad, 'beatAt'>;
  condition(node: NodeId): Condition;
  leaseOf(node: NodeId): Promise<'held' | 'gone' | 'none'>;
  /** Who answers at an address, HOST:PORT; null: nobody, or no node. */
  whoIs(address: string): Promise<WhoAmI | null>;
  /** What this manager runs in, where the meta store is its own: nobody else can judge that start. */
  own: { node: NodeId; start: Claim } | null;
  /** Its nodes have been with a later start of that node, on another copy of the store. */
  overtaken(error: TideError): void;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
}

/** Whoever beats is heard six times in this time. */
const HEARD_MS = 3_000;
/** For so long both sides are reminded. */
const TWIN_MS = 600_000;

/**
 * Lets one start of a node be that node, and no other beside it: a store that was copied and started twice
 * would be two servers of one name, which take each other's streams, acknowledge commits for each other, and
 * are reached in turns. A start is admitted where its store knows the start that the node has gone by so far,
 * and that one has ended; where that cannot be known, silence alone is no proof, as for a failover.
 */
export class Admissions {
  readonly #ports: AdmissionPorts;
  readonly #turns = new KeyedMutex();
  /** The last start of each node that was refused. */
  readonly #twins = new Map<NodeId, { id: string; address: string; atMs: number }>();

  constructor(ports: AdmissionPorts) {
    this.#ports = ports;
  }

  /**
   * Throws CLUSTER_MISMATCH, NODE_UNKNOWN, NODE_TWICE, NODE_OVERTAKEN; NODE_MAY_RUN, after which it is worth
   * asking again.
   */
  async admit(request: StartRequest): Promise<void> {
    this.#requireOwn(request.clusterId);
    await this.#turns.run(String(request.node), () => this.#judge(request));
  }

  /**
   * The node that a beat is about, if it is of the start that is that node. Throws CLUSTER_MISMATCH,
   * NODE_UNKNOWN, NODE_OVERTAKEN, NODE_NOT_ADMITTED.
   */
  hear(report: BeatReport): NodeRecord {
    this.#requireOwn(report.clusterId);
    const node = nodeById(this.#ports.view(), report.node);
    this.#requireNewest(report);
    // A node that has left is to hear so, whoever speaks for it.
    if (report.start === null || report.start === node.start || node.state === 'decommissioned') return node;
    throw tideError('NODE_NOT_ADMITTED', { node: node.id });
  }

  #requireOwn(caller: string): void {
    const { clusterId: cluster } = this.#ports.view();
    if (caller !== cluster) throw tideError('CLUSTER_MISMATCH', { caller, cluster });
  }

  /**
   * A node that has heard of a start of this manager's node that the store has not seen was with another copy
   * of the store since.
   */
  #requireNewest({ managedBy, node }: BeatReport): void {
    const { own, overtaken } = this.#ports;
    if (own === null || managedBy?.node !== own.node || standingOf(managedBy.start, own.start) !== 'stale') return;
    const why = `node ${node} has been with a later start of it, on another copy`;
    const error = tideError('NODE_OVERTAKEN', { node: own.node, why });
    overtaken(error);
    throw error;
  }

  /** Who has been refused beside the node, within the last minutes. */
  twinOf(node: NodeId): NonNullable<BeatAnswer['twin']> | null {
    const twin = this.#twins.get(node);
    if (!twin || this.#ports.clock.nowMs() - twin.atMs > TWIN_MS) return null;
    return { id: twin.id, address: twin.address };
  }

  async #judge(request: StartRequest): Promise<void> {
    const { view, own, commit } = this.#ports;
    const { node, start } = request;
    const record = nodeById(view(), node);
    const standing = this.#standingOf(record, request);
    if (standing === 'same') return;
    // It hears with its first beat that it is no member any more, and ends.
    if (record.state === 'decommissioned') return;
    if (standing === 'stale') return this.#refuse(request, await this.#whyStale(record, request));
    if (standing === 'waits' && start.id !== own?.start.id) await this.#requireEnded(record, request);
    await commit([{ kind: 'node-changed', id: node, change: { start: start.id } }]);
  }

  async #whyStale({ id: node, address }: NodeRecord, request: StartRequest): Promise<TideError> {
    if ((await this.#startAt(address, request)) === 'other') return tideError('NODE_TWICE', { node, address });
    return tideError('NODE_OVERTAKEN', {
      node,
      why: 'the cluster has gone on with a later start of it, on another copy',
    });
  }

  /** Which start of the node answers at an address: the one that asks, or another; null: none. */
  async #startAt(address: string, { node, clusterId, start }: StartRequest): Promise<'other' | 'asking' | null> {
    const found = await this.#ports.whoIs(address);
    if (found?.nodeId !== node || found.clusterId !== clusterId) return null;
    return found.start === start.id ? 'asking' : 'other';
  }

  #standingOf({ id, start: known }: NodeRecord, { start }: StartRequest): ReturnType<typeof standingOf> {
    if (known !== undefined) return standingOf(known, start);
    // It was last started by a program that does not say; if at all.
    return this.#silentMs(id) < HEARD_MS ? 'waits' : 'next';
  }

  #silentMs(node: NodeId): number {
    const { load, clock } = this.#ports;
    return clock.nowMs() - (load.beatAt(node) ?? Number.NEGATIVE_INFINITY);
  }

  /** Whether the start that the node goes by has ended, as far as this can be seen from here. */
  async #requireEnded({ id: node, address, outage }: NodeRecord, request: StartRequest): Promise<void> {
    const { condition, leaseOf } = this.#ports;
    const there = await this.#startAt(address, request);
    if (there === 'other') return this.#refuse(request, tideError('NODE_TWICE', { node, address }));
    const silentMs = this.#silentMs(node);
    const mayRun = (why: string) => tideError('NODE_MAY_RUN', { node, address, why });
    if (silentMs < HEARD_MS) throw mayRun(`it was heard ${(silentMs / 1000).toFixed(1)} s ago`);
    // Its address leads to this start, so what was there is gone; or it is proved to be down.
    if (there === 'asking' || outage || condition(node) === 'down' || (await leaseOf(node)) === 'gone') return;
    throw mayRun('it is silent, and nothing proves that its PostgreSQL is down');
  }

  /** Told once of each place: something may start it there again and again. */
  async #refuse({ node, address, start: { id } }: StartRequest, error: TideError): Promise<never> {
    const { clock, event, view } = this.#ports;
    const isNew = this.twinOf(node)?.address !== address;
    this.#twins.set(node, { id, address, atMs: clock.nowMs() });
    const goesOn = error.code === 'NODE_TWICE' ? `; the one at ${nodeById(view(), node).address} goes on` : '';
    const text = `node ${node} was started a second time, at ${address}, from a copy of its store, and refused${goesOn}`;
    if (isNew) await event({ kind: 'node-twice', node, text });
    throw error;
  }
}
