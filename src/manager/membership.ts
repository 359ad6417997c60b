import type { BeatAnswer, BeatReport, JoinAnswer, JoinRequest } from '../api/membership.ts';
import type { NodeId, NodeRecord } from '../catalog/model.ts';
import { connectedNodes } from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import { tideError } from '../core/errors.ts';
import type { Claim } from '../core/starts.ts';
import type { Runner } from '../operations/runner.ts';
import type { Admissions } from './admissions.ts';
import type { ApplyKeeper } from './apply-keeper.ts';
import type { CatalogStore } from './catalog-store.ts';
import type { ClusterLoad } from './cluster-load.ts';
import type { DeadlockWatch } from './deadlocks.ts';
import type { EventLog } from './event-log.ts';
import { nodeById } from './lookups.ts';
import type { OutageWatch } from './outage-watch.ts';
import type { SharedAuthority } from './ports.ts';
import type { Reconciler } from './reconcile.ts';

export interface MembershipPorts {
  /** Where this manager is, and the start of that node. */
  home: NodeId;
  start: Claim;
  /** Null: the store is this node's own, and nobody else can manage. */
  shared: SharedAuthority | null;
  catalog: CatalogStore;
  events: EventLog;
  runner: Runner;
  load: ClusterLoad;
  admissions: Admissions;
  outageWatch: OutageWatch;
  reconciler: Reconciler;
  applyKeeper: ApplyKeeper;
  deadlocks: DeadlockWatch;
  clock: Clock;
}

/** Format of `node.json` where clients are no superusers (`node/store-dir.ts`). */
const ROLES_STORE_FORMAT = 2;
/** How long a manager that has just started waits for everybody. */
const HEAR_MS = 3_000;
const LOOK_MS = 50;

/** Which nodes there are, what each of them is told with its beats, and what is told of them. */
export class Membership {
  readonly #ports: MembershipPorts;
  /** They have an id, and their operation is about to be journaled. */
  readonly #joining = new Set<NodeId>();
  /** They were alive when it was last looked. */
  readonly #answering = new Set<NodeId>();

  constructor(ports: MembershipPorts) {
    this.#ports = ports;
  }

  /**
   * Takes a new node in: gives it an id; the operation that makes it a member waits for its first beat.
   * Throws CLUSTER_MODE_MISMATCH, PROGRAM_TOO_OLD, ADDRESS_TAKEN.
   */
  async join(request: JoinRequest): Promise<JoinAnswer> {
    const { catalog, runner, home } = this.#ports;
    const { view } = catalog;
    if (request.startMode !== view.startMode) {
      throw tideError('CLUSTER_MODE_MISMATCH', { cluster: view.startMode, node: request.startMode });
    }
    if (view.ownRoles && request.storeFormat < ROLES_STORE_FORMAT)
      throw tideError('PROGRAM_TOO_OLD', { build: request.build });
    const taken = connectedNodes(view).find((n) => n.address === request.address);
    if (taken) throw tideError('ADDRESS_TAKEN', { address: request.address, node: taken.id });
    const id = await catalog.nextId('node');
    this.#joining.add(id);
    const node: NodeRecord = { id, state: 'joining', draining: false, ...factsOf(request) };
    try {
      await catalog.commit([{ kind: 'node-added', node }]);
      await runner.submit('join-node', { node: id });
    } finally {
      this.#joining.delete(id);
    }
    const manager = view.nodes.get(home)?.address ?? request.address;
    return { nodeId: id, clusterId: view.clusterId, manager, meta: this.#meta };
  }

  /** Throws CLUSTER_MISMATCH, NODE_UNKNOWN, NODE_NOT_ADMITTED, NODE_OVERTAKEN. */
  async beat(report: BeatReport): Promise<BeatAnswer> {
    const { admissions, load, applyKeeper, events, reconciler, deadlocks, shared } = this.#ports;
    const node = admissions.hear(report);
    const before = load.alive(node.id);
    load.beat({ ...report, barred: shared !== null && !report.leased && report.fenced });
    applyKeeper.hear(node.id, report.applyErrors);
    await this.#note(node, report);
    if (!before && load.alive(node.id) && node.state !== 'joining') {
      const text = `node ${node.id} at ${report.facts.address} is alive`;
      await events.add({ kind: 'node-live', text, node: node.id });
      reconciler.nodeReturned(node.id);
    }
    const { state } = this.#ports.catalog.view.nodes.get(report.node) ?? node;
    const twin = admissions.twinOf(node.id);
    const own = {
      state,
      upToDate: !reconciler.isDue(node.id),
      fence: this.#fenceOf(report),
      ...(twin ? { twin } : {}),
    };
    return { ...own, ...this.#toldToAll(), ...(await deadlocks.hear(report)) };
  }

  /** What has changed about it since it said so last. */
  async #note(node: NodeRecord, { facts: said }: BeatReport): Promise<void> {
    const { startMode: _, ...facts } = factsOf(said);
    const known = Object.fromEntries(Object.keys(facts).map((key) => [key, node[key as keyof typeof facts]]));
    if (JSON.stringify(facts) !== JSON.stringify(known))
      await this.#ports.catalog.commit([{ kind: 'node-changed', id: node.id, change: facts }]);
  }

  #toldToAll() {
    const { catalog, home, start } = this.#ports;
    const { view } = catalog;
    return {
      manager: nodeById(view, home).address,
      peers: connectedNodes(view).map((n) => n.address),
      meta: this.#meta,
      leaseSeconds: view.settings['node.lease'],
      ...(view.ownRoles ? { storeFormat: ROLES_STORE_FORMAT } : {}),
      ...(this.#meta === null ? { managedBy: { node: home, start: start.id } } : {}),
    };
  }

  get #meta(): string | null {
    return this.#ports.shared?.url ?? null;
  }

  /**
   * Where the meta store is shared, permission to serve is for a node that has a lease, and given by a
   * manager that is surely the only one. The next one judges nobody before it has heard everybody out
   * (HEAR_MS), which is longer than an answer may be under way.
   */
  #fenceOf({ node, leased }: BeatReport): BeatAnswer['fence'] {
    const { outageWatch, shared } = this.#ports;
    const fence = outageWatch.fenceOf(node);
    if (shared === null || fence !== 'down') return fence;
    return leased && shared.leftMs() > 0 ? 'down' : 'keep';
  }

  /**
   * A manager that has just started knows nobody to be alive: before it judges, everybody had the time to
   * beat.
   */
  async hearEverybody(signal: AbortSignal): Promise<void> {
    const { outageWatch, catalog, load, clock } = this.#ports;
    // A store that does not answer now is asked again in every round.
    const begun = outageWatch.begin().catch(() => {});
    const untilMs = clock.nowMs() + HEAR_MS;
    const isSilent = () => connectedNodes(catalog.view).some((n) => !load.alive(n.id));
    while (isSilent() && clock.nowMs() < untilMs && !signal.aborted) await clock.sleep(LOOK_MS, signal);
    await begun;
    await load.measureNow(catalog.view);
  }

  async tellOfSilence(): Promise<void> {
    const { catalog, load, events } = this.#ports;
    for (const { id } of connectedNodes(catalog.view)) {
      if (load.alive(id)) this.#answering.add(id);
      else if (this.#answering.delete(id))
        await events.add({ kind: 'node-silent', text: `node ${id} does not answer`, node: id });
    }
  }

  /**
   * A node that nobody makes a member: its operation was cancelled before it began, or the manager that had
   * given it its id died before it could journal one. The node has not got that id, or will hear that it is
   * spent.
   */
  async forgetUnjoined(): Promise<void> {
    const { catalog, runner, events } = this.#ports;
    for (const node of catalog.view.nodes.values()) {
      if (node.state !== 'joining' || this.#joining.has(node.id) || runner.holderOf(`node:${node.id}`)) continue;
      await catalog.commit([{ kind: 'node-changed', id: node.id, change: { state: 'decommissioned' } }]);
      await events.add({ kind: 'node-refused', text: `node ${node.id} was not taken in`, node: node.id });
    }
  }
}

/** Of what a node says of itself, what its record keeps. */
function factsOf(said: JoinRequest): Omit<NodeRecord, 'id' | 'state' | 'draining'> {
  const { address, httpAddress, postgresHost, postgresPort, build, startedAt, locality, attrs, startMode } = said;
  return { address, httpAddress, postgresHost, postgresPort, build, startedAt, locality, attrs, startMode };
}
