import type { BeatAnswer, NodeFacts } from '../api/membership.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { EmbeddedManager } from './embedded-manager.ts';
import type { Identity } from './identity.ts';
import type { ImportMeta, ManagerHandle, MetaPlace, SharedPorts, StartManager } from './manager-handle.ts';
import { MetaMover } from './meta-mover.ts';
import type { OwnStart } from './own-start.ts';
import { SharedMeta } from './shared-meta.ts';
import type { NodeIdentity, StoreDir } from './store-dir.ts';
import type { TopologyFeed } from './topology-feed.ts';

export interface ManagementPorts {
  startManager: StartManager;
  importMeta: ImportMeta;
  shared: SharedPorts;
  store: StoreDir;
  identity: Identity;
  topology: TopologyFeed;
  /** Of a cluster that begins here (`--min-nodes`). */
  minNodes: number | undefined;
  ownStart(): OwnStart;
  /** What the first node of a cluster says of itself. */
  facts(postgresPort: number): NodeFacts;
  /** The PostgreSQL of this node lets nobody in. */
  isFenced(): boolean;
  /** It is not the newest start of this node: nothing may be done in its name any more. */
  onOvertaken(error: TideError): void;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/**
 * Who manages the cluster, as this node knows: the manager in this process, while the node holds the embedded
 * meta store or has the seat in the shared one, or wherever it is said to be.
 */
export class Management {
  readonly mover: MetaMover;
  readonly #ports: ManagementPorts;
  readonly #embedded: EmbeddedManager;
  #shared: SharedMeta | null = null;

  constructor(ports: ManagementPorts) {
    const { identity, store, log } = ports;
    this.#ports = ports;
    this.#embedded = new EmbeddedManager({
      start: (broken) => this.#startManager({ directory: store.meta }, broken),
      log,
    });
    this.mover = new MetaMover({
      identity: () => identity.required,
      remember: (change, again) => identity.remember(change, again),
      manager: () => this.#embedded.handle,
      giveAwayManager: () => this.#embedded.giveAway(),
      startManager: () => this.#startEmbedded(),
      openShared: (url) => ports.shared.open(url),
      share: (url) => this.#share(url, true),
      importMeta: ports.importMeta,
      directory: store.meta,
      log,
    });
  }

  /**
   * Takes up this node's part in it. `meta`: URL of the shared meta store; null: it is embedded somewhere.
   */
  async begin(meta: string | null): Promise<void> {
    await (meta === null ? this.#startEmbedded() : this.#share(meta, false));
  }

  /** Manages no more. */
  async end(): Promise<void> {
    await this.#shared?.seat.end();
    await this.#embedded.end();
  }

  /** This node's part in a shared meta store; null: there is none. */
  get shared(): SharedMeta | null {
    return this.#shared;
  }

  /** The manager, while it runs in this process. */
  get here(): ManagerHandle | null {
    return this.#shared === null ? this.#embedded.handle : this.#shared.seat.manager;
  }

  /** HOST:PORT of the manager. Throws NO_MANAGER_ELECTED. */
  requireAddress(): string {
    return this.#shared?.seat.requireLeader() ?? this.#ports.identity.value?.manager ?? '';
  }

  /** While the embedded meta store moves, only the move itself says who manages. */
  get isSettled(): boolean {
    return this.mover.movingTo === null && this.#embedded.handle === null;
  }

  /**
   * Sends to the manager, wherever it runs but here. Throws what it answers, META_MOVING, NO_MANAGER,
   * NO_MANAGER_ELECTED.
   */
  async withManager<T>(send: (address: string) => Promise<T>): Promise<T> {
    const { movingTo } = this.mover;
    if (movingTo !== null) throw tideError('META_MOVING', { to: movingTo });
    if (this.#shared !== null) return this.#shared.withManager(send);
    // Asked by itself it would ask itself again.
    const { metaHome = false, manager = '', advertiseAddress = null } = this.#ports.identity.value ?? {};
    if (metaHome || manager === advertiseAddress)
      throw tideError('NO_MANAGER', { manager: 'this node', why: 'it is about to start, or knows of no other' });
    try {
      return await send(manager);
    } catch (error) {
      if (error instanceof TideError && error.code !== 'UNREACHABLE') throw error;
      throw tideError('NO_MANAGER', { manager, why: messageOf(error) }, error);
    }
  }

  /**
   * Notes what the manager has said. A decommissioned node goes on forwarding until it is stopped, and never
   * starts again.
   */
  hear(answer: BeatAnswer): void {
    const { identity, ownStart, log } = this.#ports;
    const known = identity.value;
    if (!known) return;
    const heard: Partial<NodeIdentity> = { peers: answer.peers };
    if (answer.storeFormat !== undefined) heard.formatVersion = answer.storeFormat;
    if (answer.state === 'decommissioned') {
      heard.state = 'decommissioned';
      this.#shared?.seat.resign();
    }
    if (this.isSettled && known.metaFrom === null) heard.manager = answer.manager;
    const migrated = this.isSettled && answer.meta !== null && known.meta === null ? answer.meta : null;
    if (migrated !== null) Object.assign(heard, { meta: migrated, metaHome: false });
    this.#shared?.lease.setLength(answer.leaseSeconds);
    Promise.all([identity.remember(heard), ownStart().hear(answer)])
      .then(() => (migrated === null ? undefined : this.#share(migrated, true)))
      .catch((error) => {
        log('error', 'what the manager said could not be written to the store', { error: messageOf(error) });
      });
  }

  async #startEmbedded(): Promise<void> {
    if (this.#ports.identity.required.metaHome) await this.#embedded.start();
  }

  async #startManager(meta: MetaPlace, broken: (error: unknown) => void): Promise<ManagerHandle> {
    const { startManager, identity, minNodes, ownStart, onOvertaken, topology, facts, log } = this.#ports;
    const { nodeId: home, clusterId, startMode, postgresPort } = identity.required;
    const start = ownStart().starts.claim;
    const of = { home, clusterId, startMode, minNodes, start };
    const manager = await startManager({ meta, ...of, overtaken: onOvertaken, broken, log });
    manager.followTopology((now) => topology.publish(now));
    if (!manager.hasMembers()) await manager.join(facts(postgresPort));
    return manager;
  }

  /**
   * Takes part in the election, and keeps a lease from now on. `serving`: the node has served without one so
   * far.
   */
  async #share(url: string, serving: boolean): Promise<void> {
    if (this.#shared !== null) return;
    const { identity, shared, ownStart, store, isFenced, log } = this.#ports;
    const { nodeId, advertiseAddress } = identity.required;
    this.#shared = new SharedMeta({
      url,
      store: shared.open(url),
      node: nodeId,
      start: ownStart().starts,
      address: advertiseAddress,
      directory: store,
      serving,
      isFenced,
      startManager: (grant) => this.#startManager({ ...grant, url }, (error) => grant.giveUp(messageOf(error))),
      log,
    });
    await this.#shared.start();
  }
}
