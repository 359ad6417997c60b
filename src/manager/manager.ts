import type { ManagerCommand } from '../api/commands.ts';
import type { BeatAnswer, BeatReport, JoinAnswer, JoinRequest, StartRequest } from '../api/membership.ts';
import type { NodeId } from '../catalog/model.ts';
import { connectedNodes } from '../catalog/view.ts';
import { TideError, tideError } from '../core/errors.ts';
import { Journal } from '../operations/journal.ts';
import { type Topology, topologyOf } from '../routing/topology.ts';
import { CatalogStore } from './catalog-store.ts';
import type { CommandContext } from './commands/context.ts';
import { runCommand } from './commands/run.ts';
import { EndingStore } from './ending-store.ts';
import { EventLog } from './event-log.ts';
import { nodeById } from './lookups.ts';
import type { ManagerPorts } from './manager-ports.ts';
import { type Opened, type Parts, partsOf } from './parts.ts';
import { keepRounds } from './rounds.ts';

/**
 * The elected process that runs operations. With the embedded meta store it is the node that holds the store.
 */
export class Manager {
  readonly #opened: Opened;
  readonly #parts: Parts;
  readonly #ending = new AbortController();
  readonly #informed: Promise<void>;
  readonly #rounds: Promise<void>;

  private constructor(opened: Opened) {
    const { ports, catalog } = opened;
    const { clock, log } = ports;
    const { signal } = this.#ending;
    const parts = partsOf(opened);
    this.#opened = opened;
    this.#parts = parts;
    // A resumed change of leader would otherwise leave healthy followers behind as dead, to be copied again.
    this.#informed = parts.membership.hearEverybody(signal).then(() => parts.runner.resume());
    this.#rounds = keepRounds(parts, { view: () => catalog.view, informed: this.#informed, clock, signal, log });
  }

  /** Opens what the meta store holds and goes on with every operation that had not ended. */
  static async start(home: NodeId, ports: ManagerPorts): Promise<Manager> {
    const store = new EndingStore(ports.store, home);
    const catalog = await CatalogStore.open(store, ports.broken);
    const events = await EventLog.open(store, ports.clock);
    const journal = await Journal.open(store);
    if (ports.shared) {
      const text = `node ${home} manages the cluster, term ${ports.shared.term}`;
      await events.add({ kind: 'manager-elected', node: home, text });
    }
    return new Manager({ home, ports: { ...ports, store }, catalog, events, journal });
  }

  /** Lets go of everything where it is. The next manager goes on. */
  async stop(): Promise<void> {
    await this.#letGo();
    await this.#opened.ports.store.close();
  }

  /** Lets go at once: whoever manages now ends what this one has begun on the servers, and goes on. */
  async abandon(): Promise<void> {
    this.#parts.servers.cut();
    await this.stop();
  }

  async #letGo(): Promise<void> {
    this.#ending.abort();
    await this.#parts.runner.stop();
    await this.#rounds;
    await this.#parts.servers.close();
  }

  /** HOST:PORT of every member that is alive. */
  liveMembers(): string[] {
    return connectedNodes(this.#opened.catalog.view).flatMap((n) => (this.#parts.load.alive(n.id) ? [n.address] : []));
  }

  /**
   * HOST:PORT of a live member that can take the meta store. Throws NODE_UNKNOWN, NODE_NOT_ACTIVE,
   * NODE_NOT_ALIVE.
   */
  successor(node: NodeId): string {
    const record = nodeById(this.#opened.catalog.view, node);
    if (record.state !== 'active') throw tideError('NODE_NOT_ACTIVE', { node, state: record.state });
    if (!this.#parts.load.alive(node)) throw tideError('NODE_NOT_ALIVE', { nodes: `node ${node} is` });
    return record.address;
  }

  /** Lets go of everything and gives what the meta store holds, for another node to go on with. */
  async stopAndExport(): Promise<{ key: string; value: unknown }[]> {
    await this.#letGo();
    const entries = await this.#opened.ports.store.endAndExport();
    return entries.map(({ key, value }) => ({ key, value }));
  }

  /** Tells of the topology now, and after every change. */
  followTopology(hear: (topology: Topology) => void): void {
    const { catalog } = this.#opened;
    hear(topologyOf(catalog.view));
    catalog.onChange((view) => hear(topologyOf(view)));
  }

  get clusterId(): string {
    return this.#opened.catalog.view.clusterId;
  }

  hasMembers(): boolean {
    return this.#opened.catalog.view.nodes.size > 0;
  }

  get storeIsFull(): boolean {
    return this.#opened.ports.store.isFull;
  }

  /**
   * Carries one admin command out. Throws what it throws, and MANAGER_LOST where this manager ends meanwhile.
   */
  async run(command: ManagerCommand): Promise<unknown> {
    await this.#informed;
    try {
      return await runCommand(this.#context(), command);
    } catch (error) {
      // What it was at work with has been closed under it.
      if (!this.#ending.signal.aborted || (error instanceof TideError && error.code !== 'NODE_UNREACHABLE'))
        throw error;
      throw tideError('MANAGER_LOST', { node: this.#opened.home }, error);
    }
  }

  #context(): CommandContext {
    const { home, ports, catalog, events } = this.#opened;
    const { load, runner, outageWatch, admissions, applyKeeper, servers } = this.#parts;
    return {
      catalog,
      load,
      runner,
      events,
      outageWatch,
      admissions,
      streams: applyKeeper,
      inspector: servers.inspector,
      clock: ports.clock,
      home,
      shared: ports.shared,
      get view() {
        return catalog.view;
      },
      get loadView() {
        return load.view(catalog.view);
      },
    };
  }

  /** As `Membership.join`. */
  join(request: JoinRequest): Promise<JoinAnswer> {
    return this.#parts.membership.join(request);
  }

  /**
   * Lets a start of a node be that node. Throws CLUSTER_MISMATCH, NODE_UNKNOWN, NODE_TWICE, NODE_OVERTAKEN,
   * NODE_MAY_RUN.
   */
  async admit(request: StartRequest): Promise<void> {
    await this.#parts.admissions.admit(request);
  }

  /** As `Membership.beat`. */
  beat(report: BeatReport): Promise<BeatAnswer> {
    return this.#parts.membership.beat(report);
  }
}
