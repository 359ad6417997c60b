import type { AdminCommand } from '../api/commands.ts';
import type { BeatAnswer, BeatReport, JoinAnswer, JoinRequest, StartRequest, WhoAmI } from '../api/membership.ts';
import type { CatalogChange } from '../catalog/change.ts';
import type { NodeId, NodeRecord, NodeState } from '../catalog/model.ts';
import { connectedNodes, isOut } from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import type { Claim } from '../core/starts.ts';
import { Journal } from '../operations/journal.ts';
import { partitionLock } from '../operations/operation.ts';
import type { DataPlane } from '../operations/ports.ts';
import { OPERATION_KINDS } from '../operations/registry.ts';
import { Runner } from '../operations/runner.ts';
import { type Topology, topologyOf } from '../routing/topology.ts';
import type { MetaStore } from '../store/meta-store.ts';
import { Admissions } from './admissions.ts';
import { ApplyKeeper } from './apply-keeper.ts';
import { Balancer } from './balancer.ts';
import { CatalogStore } from './catalog-store.ts';
import { ClusterLoad } from './cluster-load.ts';
import type { CommandContext } from './commands/context.ts';
import { runCommand } from './commands/run.ts';
import { DeadlockWatch } from './deadlocks.ts';
import { EndingStore } from './ending-store.ts';
import { EventLog } from './event-log.ts';
import { Guardian } from './guardian.ts';
import { History } from './history.ts';
import { nodeById } from './lookups.ts';
import { Measurements } from './measurements.ts';
import type { Inspector, SharedAuthority } from './ports.ts';
import { Promotions } from './promotions.ts';
import { Reconciler } from './reconcile.ts';
import { RoleKeeper } from './role-keeper.ts';
import { StreamKeeper } from './stream-keeper.ts';
import { WalKeeper } from './wal-keeper.ts';

export interface ManagerPorts {
  store: MetaStore;
  /** Null: the store is this node's own, and nobody else can manage. */
  shared: SharedAuthority | null;
  /** The start of the node that this manager runs in. */
  start: Claim;
  /** Who answers at an address, HOST:PORT; null: nobody, or no node. */
  whoIs(address: string): Promise<WhoAmI | null>;
  /** The node has managed since, with another copy of this store: to be called when that is seen. */
  overtaken(error: TideError): void;
  /**
   * It cannot go on, for a defect or because somebody else writes the store: to be abandoned, and another to
   * be started.
   */
  broken(why: unknown): void;
  clock: Clock;
  random: () => number;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
  /** Made with look-ups into this manager's catalog. */
  servers(lookups: { addressOf(node: NodeId): { host: string; port: number }; reachable(node: NodeId): boolean }): {
    plane: DataPlane;
    inspector: Inspector;
    close(): Promise<void>;
    /** Ends what is under way, and lets nothing new begin. */
    cut(): void;
  };
}

type OwnPorts = ManagerPorts & { store: EndingStore };

const ROUND_MS = 500;
const WATCH_MS = 150;
/** A node that is dead holds up writes of two-replica tables this much longer than it takes to be noticed. */
const QUORUM_MS = 300;
const HEAR_MS = 3_000;
/** A disk fills by some hundred MB in this time. */
const STREAMS_MS = 1_000;
const ROLES_MS = 1_000;

/** Format of `node.json` where clients are no superusers (`node/store-dir.ts`). */
const ROLES_STORE_FORMAT = 2;

/**
 * The elected process that runs operations. With the embedded meta store it is the node that holds the store.
 */
export class Manager {
  readonly #catalog: CatalogStore;
  readonly #events: EventLog;
  readonly #ports: OwnPorts;
  readonly #home: NodeId;
  readonly #load: ClusterLoad;
  readonly #runner: Runner;
  readonly #reconciler: Reconciler;
  readonly #guardian: Guardian;
  readonly #admissions: Admissions;
  readonly #walKeeper: WalKeeper;
  readonly #streamKeeper: StreamKeeper;
  readonly #applyKeeper: ApplyKeeper;
  readonly #history: History;
  readonly #balancer: Balancer;
  readonly #deadlocks: DeadlockWatch;
  readonly #roleKeeper: RoleKeeper;
  readonly #servers: ReturnType<ManagerPorts['servers']>;
  readonly #ending = new AbortController();
  /** They have an id, and their operation is about to be journaled. */
  readonly #joining = new Set<NodeId>();
  #rounds: Promise<void> = Promise.resolve();
  #informed: Promise<void> = Promise.resolve();

  private constructor(home: NodeId, ports: OwnPorts, catalog: CatalogStore, events: EventLog, journal: Journal) {
    this.#home = home;
    this.#ports = ports;
    this.#catalog = catalog;
    this.#events = events;
    const alive = (node: NodeId) => this.#load.alive(node);
    const reachable = (node: NodeId) => this.#load.reachable(node);
    const servers = ports.servers({ addressOf: (node) => this.#addressOf(node), reachable });
    this.#servers = servers;
    const measurements = new Measurements({ clock: ports.clock, inspector: servers.inspector, log: ports.log });
    const heldBack = () => this.#applyKeeper.heldBack();
    this.#load = new ClusterLoad(ports.clock, measurements, (node) => isOut(catalog.view, node), heldBack);
    const reconnect = (node: NodeId) => this.#reconciler.nodeReturned(node);
    this.#balancer = new Balancer((entry) => events.add(entry));
    const shared = {
      plane: servers.plane,
      view: () => catalog.view,
      alive,
      commit: (changes: Parameters<CatalogStore['commit']>[0]) => this.#commit(changes),
      log: ports.log,
      clock: ports.clock,
      event: (entry: Parameters<EventLog['add']>[0]) => events.add(entry),
    };
    this.#runner = new Runner(journal, OPERATION_KINDS, {
      ...shared,
      random: ports.random,
      load: () => this.#load.view(catalog.view),
      broken: ports.broken,
      copyFailure: (from, to, ref) => this.#applyKeeper.copyFailure(from, to, ref),
    });
    this.#history = new History({ clock: ports.clock, runner: this.#runner, log: ports.log });
    this.#guardian = new Guardian({
      ...shared,
      runner: this.#runner,
      load: this.#load,
      inspector: servers.inspector,
      leaseOf: async (node) => ports.shared?.leaseOf(node) ?? 'none',
    });
    this.#admissions = new Admissions({
      ...shared,
      load: this.#load,
      condition: (node) => this.#guardian.condition(node),
      leaseOf: async (node) => ports.shared?.leaseOf(node) ?? 'none',
      whoIs: ports.whoIs,
      own: ports.shared === null ? { node: home, start: ports.start } : null,
      overtaken: ports.overtaken,
    });
    this.#deadlocks = new DeadlockWatch(shared);
    const isChoosing = (node: NodeId) =>
      this.#runner.unended().some((r) => r.kind === 'failover' && r.input.node === node);
    const promotions = new Promotions({ runner: this.#runner, view: () => catalog.view });
    const broken = { quorums: this.#runner.quorums, promotions };
    this.#reconciler = new Reconciler({
      ...shared,
      ...broken,
      holderOf: (tid, pid) => this.#runner.holderOf(partitionLock(tid, pid)),
      isChoosing,
    });
    this.#applyKeeper = new ApplyKeeper({ ...shared, ...broken, isChoosing, reconnect });
    this.#walKeeper = new WalKeeper({
      ...shared,
      ...broken,
      inspector: servers.inspector,
      load: () => this.#load.view(catalog.view),
      reconnect,
    });
    const metaFormat = (node: NodeId) => this.#load.metaFormat(node);
    this.#roleKeeper = new RoleKeeper({ ...shared, metaFormat, separate: () => catalog.separateRoles() });
    this.#streamKeeper = new StreamKeeper({ ...shared, inspector: servers.inspector, reconnect });
  }

  /** Opens what the meta store holds and goes on with every operation that had not ended. */
  static async start(home: NodeId, ports: ManagerPorts): Promise<Manager> {
    const store = new EndingStore(ports.store, home);
    const catalog = await CatalogStore.open(store, ports.broken);
    const events = await EventLog.open(store, ports.clock);
    const manager = new Manager(home, { ...ports, store }, catalog, events, await Journal.open(store));
    const { shared } = ports;
    if (shared) {
      const text = `node ${home} manages the cluster, term ${shared.term}`;
      await events.add({ kind: 'manager-elected', node: home, text });
    }
    // A resumed change of leader would otherwise leave healthy followers behind as dead, to be copied again.
    manager.#informed = manager.#hearEverybody().then(() => manager.#runner.resume());
    manager.#rounds = Promise.all([
      manager.#loop(),
      manager.#watch(),
      manager.#keepQuorums(),
      manager.#keepStreams(),
      manager.#keepRoles(),
    ]).then(() => {});
    return manager;
  }

  /** Lets go of everything where it is. The next manager goes on. */
  async stop(): Promise<void> {
    await this.#letGo();
    await this.#ports.store.close();
  }

  /** Lets go at once: whoever manages now ends what this one has begun on the servers, and goes on. */
  async abandon(): Promise<void> {
    this.#servers.cut();
    await this.stop();
  }

  async #letGo(): Promise<void> {
    this.#ending.abort();
    await this.#runner.stop();
    await this.#rounds;
    await this.#servers.close();
  }

  /** HOST:PORT of every member that is alive. */
  liveMembers(): string[] {
    return connectedNodes(this.#catalog.view).flatMap((n) => (this.#load.alive(n.id) ? [n.address] : []));
  }

  /**
   * HOST:PORT of a live member that can take the meta store. Throws NODE_UNKNOWN, NODE_NOT_ACTIVE,
   * NODE_NOT_ALIVE.
   */
  successor(node: NodeId): string {
    const record = nodeById(this.#catalog.view, node);
    if (record.state !== 'active') throw tideError('NODE_NOT_ACTIVE', { node, state: record.state });
    if (!this.#load.alive(node)) throw tideError('NODE_NOT_ALIVE', { nodes: `node ${node} is` });
    return record.address;
  }

  /** Lets go of everything and gives what the meta store holds, for another node to go on with. */
  async stopAndExport(): Promise<{ key: string; value: unknown }[]> {
    await this.#letGo();
    const entries = await this.#ports.store.endAndExport();
    return entries.map(({ key, value }) => ({ key, value }));
  }

  /** Tells of the topology now, and after every change. */
  followTopology(hear: (topology: Topology) => void): void {
    hear(topologyOf(this.#catalog.view));
    this.#catalog.onChange((view) => hear(topologyOf(view)));
  }

  get clusterId(): string {
    return this.#catalog.view.clusterId;
  }

  hasMembers(): boolean {
    return this.#catalog.view.nodes.size > 0;
  }

  async run(command: AdminCommand): Promise<unknown> {
    await this.#informed;
    const { catalog, load } = { catalog: this.#catalog, load: this.#load };
    const context: CommandContext = {
      catalog,
      load,
      runner: this.#runner,
      events: this.#events,
      guardian: this.#guardian,
      admissions: this.#admissions,
      streams: this.#applyKeeper,
      inspector: this.#servers.inspector,
      clock: this.#ports.clock,
      home: this.#home,
      shared: this.#ports.shared,
      get view() {
        return catalog.view;
      },
      get loadView() {
        return load.view(catalog.view);
      },
    };
    try {
      return await runCommand(context, command);
    } catch (error) {
      // What it was at work with has been closed under it.
      if (!this.#ending.signal.aborted || (error instanceof TideError && error.code !== 'NODE_UNREACHABLE'))
        throw error;
      throw tideError('MANAGER_LOST', { node: this.#home }, error);
    }
  }

  /** Takes a new node in: gives it an id; the operation that makes it a member waits for its first beat. */
  async join(request: JoinRequest): Promise<JoinAnswer> {
    const view = this.#catalog.view;
    if (request.startMode !== view.startMode) {
      throw tideError('CLUSTER_MODE_MISMATCH', { cluster: view.startMode, node: request.startMode });
    }
    if (view.ownRoles && request.storeFormat < ROLES_STORE_FORMAT)
      throw tideError('PROGRAM_TOO_OLD', { build: request.build });
    const taken = connectedNodes(view).find((n) => n.address === request.address);
    if (taken) throw tideError('ADDRESS_TAKEN', { address: request.address, node: taken.id });
    const id = await this.#catalog.nextId('node');
    this.#joining.add(id);
    await this.#commit([{ kind: 'node-put', node: nodeRecord(id, 'joining', request) }]);
    await this.#runner.submit('join-node', { node: id });
    this.#joining.delete(id);
    const manager = view.nodes.get(this.#home)?.address ?? request.address;
    return { nodeId: id, clusterId: view.clusterId, manager, meta: this.#meta };
  }

  /**
   * Lets a start of a node be that node. Throws CLUSTER_MISMATCH, NODE_UNKNOWN, NODE_TWICE, NODE_OVERTAKEN,
   * NODE_MAY_RUN.
   */
  async admit(request: StartRequest): Promise<void> {
    await this.#admissions.admit(request);
  }

  /** Throws CLUSTER_MISMATCH, NODE_UNKNOWN, NODE_NOT_ADMITTED, NODE_OVERTAKEN. */
  async beat(report: BeatReport): Promise<BeatAnswer> {
    const node = this.#admissions.hear(report);
    const before = this.#load.alive(node.id);
    this.#load.beat({ ...report, barred: this.#ports.shared !== null && !report.leased && report.fenced });
    this.#applyKeeper.hear(node.id, report.applyErrors);
    const { address, httpAddress, postgresHost, postgresPort, build, startedAt, locality, attrs } = report.facts;
    const facts = { address, httpAddress, postgresHost, postgresPort, build, startedAt, locality, attrs };
    const known = Object.fromEntries(Object.keys(facts).map((key) => [key, node[key as keyof typeof facts]]));
    if (JSON.stringify(facts) !== JSON.stringify(known))
      await this.#commit([{ kind: 'node-changed', id: node.id, change: facts }]);
    if (!before && this.#load.alive(node.id) && node.state !== 'joining') {
      await this.#events.add({ kind: 'node-live', text: `node ${node.id} at ${address} is alive`, node: node.id });
      this.#reconciler.nodeReturned(node.id);
    }
    const { state } = this.#catalog.view.nodes.get(report.node) ?? node;
    const peers = connectedNodes(this.#catalog.view).map((n) => n.address);
    const manager = nodeById(this.#catalog.view, this.#home).address;
    const leaseSeconds = this.#catalog.view.settings['node.lease'];
    const upToDate = !this.#reconciler.isDue(node.id);
    const told = { state, upToDate, fence: this.#fenceOf(report), manager, peers, meta: this.#meta, leaseSeconds };
    const managedBy = this.#meta === null ? { managedBy: { node: this.#home, start: this.#ports.start.id } } : {};
    const twin = this.#admissions.twinOf(node.id);
    const format = this.#catalog.view.ownRoles ? { storeFormat: ROLES_STORE_FORMAT } : {};
    return { ...told, ...format, ...managedBy, ...(twin ? { twin } : {}), ...(await this.#deadlocks.hear(report)) };
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
    const fence = this.#guardian.fenceOf(node);
    const { shared } = this.#ports;
    if (shared === null || fence !== 'down') return fence;
    return leased && shared.leftMs() > 0 ? 'down' : 'keep';
  }

  /**
   * A manager that has just started knows nobody to be alive: before it judges, everybody had the time to
   * beat.
   */
  async #hearEverybody(): Promise<void> {
    // A store that does not answer now is asked again in every round.
    const begun = this.#guardian.begin().catch(() => {});
    const untilMs = this.#ports.clock.nowMs() + HEAR_MS;
    const silent = () => connectedNodes(this.#catalog.view).some((n) => !this.#load.alive(n.id));
    while (silent() && this.#ports.clock.nowMs() < untilMs && !this.#ending.signal.aborted) {
      await this.#ports.clock.sleep(50, this.#ending.signal);
    }
    await begun;
    await this.#load.measureNow(this.#catalog.view);
  }

  #addressOf(node: NodeId): { host: string; port: number } {
    const record = nodeById(this.#catalog.view, node);
    return { host: record.postgresHost, port: record.postgresPort };
  }

  async #commit(changes: Parameters<CatalogStore['commit']>[0]): Promise<void> {
    await this.#catalog.commit(changes);
    const hasLeft = (c: CatalogChange) => c.kind === 'node-changed' && c.change.state === 'decommissioned';
    if (changes.some((c) => c.kind === 'leader-changed' || hasLeft(c))) this.#reconciler.hingesChanged();
  }

  async #loop(): Promise<void> {
    const alive = new Set<NodeId>();
    while (!this.#ending.signal.aborted) {
      try {
        const view = this.#catalog.view;
        await this.#tellOfSilence(alive);
        await this.#forgetUnjoined();
        await this.#reconciler.round();
        if (this.#load.measured(view))
          await this.#balancer.round(this.#runner, this.#catalog.view, this.#load.view(this.#catalog.view));
      } catch (error) {
        if (!this.#ending.signal.aborted) this.#ports.log('error', 'manager round failed', { error: messageOf(error) });
      }
      await this.#ports.clock.sleep(ROUND_MS, this.#ending.signal);
    }
  }

  /** Apart from the rounds, which wait for servers: a failover must not. */
  async #watch(): Promise<void> {
    await this.#informed;
    while (!this.#ending.signal.aborted) {
      try {
        await this.#guardian.round();
      } catch (error) {
        if (!this.#ending.signal.aborted) this.#ports.log('error', 'watch failed', { error: messageOf(error) });
      }
      await this.#ports.clock.sleep(WATCH_MS, this.#ending.signal);
    }
  }

  /**
   * Beside the other rounds, which a slow node may hold up: what a dead one was waited for must not wait for
   * them.
   */
  async #keepQuorums(): Promise<void> {
    await this.#informed;
    while (!this.#ending.signal.aborted) {
      this.#runner.quorums.round();
      await this.#ports.clock.sleep(QUORUM_MS, this.#ending.signal);
    }
    await this.#runner.quorums.idle();
  }

  /**
   * Beside the other rounds for the same reason: a slow node fills the disks of others, and stands in
   * nobody's way.
   */
  async #keepStreams(): Promise<void> {
    await this.#informed;
    let wasFull = false;
    while (!this.#ending.signal.aborted) {
      const live = connectedNodes(this.#catalog.view).filter((n) => n.state !== 'joining' && this.#load.alive(n.id));
      const nodes = live.map((n) => n.id);
      this.#load.measure(this.#catalog.view);
      this.#walKeeper.round(nodes);
      this.#streamKeeper.round(nodes);
      this.#applyKeeper.round(nodes);
      this.#history.round();
      wasFull = await this.#watchStore(wasFull).catch(() => true);
      await this.#ports.clock.sleep(STREAMS_MS, this.#ending.signal);
    }
    const keepers = [this.#walKeeper, this.#streamKeeper, this.#applyKeeper];
    await Promise.all([...keepers, this.#load.measurements, this.#history].map((work) => work.idle()));
  }

  async #keepRoles(): Promise<void> {
    await this.#informed;
    while (!this.#ending.signal.aborted) {
      await this.#roleKeeper.round().catch((error) => {
        if (!this.#ending.signal.aborted)
          this.#ports.log('warn', 'roles are as they were', { error: messageOf(error) });
      });
      await this.#ports.clock.sleep(ROLES_MS, this.#ending.signal);
    }
    await this.#roleKeeper.idle();
  }

  /**
   * Tells of a meta store without room, which nobody else may be writing to, and whether it has some again.
   */
  async #watchStore(wasFull: boolean): Promise<boolean> {
    await this.#events.flush();
    const { isFull } = this.#ports.store;
    if (isFull === wasFull) return isFull;
    const text = isFull
      ? 'the meta store has no room on its disk: operations wait, nodes that die are not replaced, settings stay as they are'
      : 'the meta store has room again: operations go on';
    await this.#events.add({ kind: isFull ? 'meta-full' : 'meta-room', node: this.#home, text });
    return isFull;
  }

  get storeIsFull(): boolean {
    return this.#ports.store.isFull;
  }

  /**
   * A node that nobody makes a member: its operation was cancelled before it began, or the manager that had
   * given it its id died before it could journal one. The node has not got that id, or will hear that it is
   * spent.
   */
  async #forgetUnjoined(): Promise<void> {
    for (const node of this.#catalog.view.nodes.values()) {
      if (node.state !== 'joining' || this.#joining.has(node.id) || this.#runner.holderOf(`node:${node.id}`)) continue;
      await this.#commit([{ kind: 'node-put', node: { ...node, state: 'decommissioned' } }]);
      await this.#events.add({ kind: 'node-refused', text: `node ${node.id} was not taken in`, node: node.id });
    }
  }

  async #tellOfSilence(alive: Set<NodeId>): Promise<void> {
    for (const { id } of connectedNodes(this.#catalog.view)) {
      const now = this.#load.alive(id);
      if (now) alive.add(id);
      else if (alive.delete(id))
        await this.#events.add({ kind: 'node-silent', text: `node ${id} does not answer`, node: id });
    }
  }
}

function nodeRecord(id: NodeId, state: NodeState, facts: JoinRequest): NodeRecord {
  const { address, httpAddress, postgresHost, postgresPort, build, startedAt, locality, attrs, startMode } = facts;
  return {
    id,
    state,
    draining: false,
    address,
    httpAddress,
    postgresHost,
    postgresPort,
    locality,
    attrs,
    build,
    startMode,
    startedAt,
  };
}
