import { ask } from '../api/http-client.ts';
import type { MetaPart, MetaTransfer } from '../api/membership.ts';
import { tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import type { SharedStore } from '../store/meta-store.ts';
import { copyUnsealed, requireVacant } from '../store/migration.ts';
import type { ImportMeta, ManagerHandle } from './manager-handle.ts';
import { MetaArrival, sendMeta } from './meta-transfer.ts';
import type { NodeIdentity } from './store-dir.ts';

const META_MOVE_MS = 60_000;
const CHECK_MS = 10_000;

export interface MetaMoverPorts {
  identity(): NodeIdentity;
  /** Durable when it returns. `again`: also where it seems to be so already. */
  remember(change: Partial<NodeIdentity>, again?: boolean): Promise<void>;
  /** The embedded manager, where it runs here. */
  manager(): ManagerHandle | null;
  /** Stops it, and starts no other before `startManager`. */
  giveAwayManager(): void;
  /** Starts the embedded manager, where this node is its home. */
  startManager(): Promise<void>;
  openShared(url: string): SharedStore;
  /** Takes part in the shared store from now on. */
  share(url: string): Promise<void>;
  importMeta: ImportMeta;
  /** Directory of the embedded store. */
  directory: string;
  log(level: 'info', message: string, facts: object): void;
}

/** Moves the embedded meta store: to another node, or into etcd. */
export class MetaMover {
  readonly #ports: MetaMoverPorts;
  /**
   * The word to take a store up comes more than once, and at once: from the node that gave it, and with that
   * node's next beat.
   */
  readonly #turns = new KeyedMutex();
  /** Where the meta store is on its way to. */
  #movingTo: string | null = null;

  readonly #arrival: MetaArrival;

  constructor(ports: MetaMoverPorts) {
    this.#ports = ports;
    this.#arrival = new MetaArrival(() => ports.importMeta(ports.directory));
  }

  get movingTo(): string | null {
    return this.#movingTo;
  }

  /**
   * Hands the meta store and the manager to another node. The turning point is this node's own note that it
   * is not the home any more: before it, a crash leaves the manager here and a copy there that never runs;
   * after it, the copy runs at the first word from here.
   */
  async handOver(node: number): Promise<{ node: number; address: string }> {
    const { nodeId, clusterId } = this.#ports.identity();
    const manager = this.#requireManager('meta move');
    const address = manager.successor(node);
    if (node === nodeId) return { node, address };
    await this.#give(manager, address, async (entries) => {
      await sendMeta(address, nodeId, clusterId, entries);
      await this.#ports.remember({ metaHome: false, manager: address });
    });
    await ask(address, 'meta/activate', { from: nodeId }, { timeoutMs: META_MOVE_MS, cluster: clusterId });
    this.#ports.log('info', 'the meta store has moved', { to: node, address });
    return { node, address };
  }

  /**
   * Takes the cluster's facts from the embedded store into etcd. The turning point is again this node's own
   * note. Before it, what lies in etcd is a copy that nobody takes for a cluster; after it, nothing opens the
   * embedded store any more, and whoever is elected first makes the copy the cluster. The other nodes hear of
   * it with their next beat, or from each other when they start.
   */
  async migrate(url: string): Promise<{ meta: string }> {
    const { clusterId } = this.#ports.identity();
    const manager = this.#requireManager('meta migrate');
    const store = this.#ports.openShared(url);
    await requireVacant(store, url, clusterId);
    // A node that could not reach it would be fenced as soon as it hears of it.
    const options = { timeoutMs: CHECK_MS, cluster: clusterId };
    await Promise.all(manager.liveMembers().map((member) => ask(member, 'meta/check', { url }, options)));
    await this.#give(manager, url, async (entries) => {
      await copyUnsealed(store, { url, clusterId }, entries);
      await this.#ports.remember({ metaHome: false, meta: url });
    });
    await this.#ports.share(url);
    this.#ports.log('info', 'the meta store is in etcd', { url });
    return { meta: url };
  }

  /** Stops the manager for the time, and has it go on here where the giving failed. */
  async #give(
    manager: ManagerHandle,
    to: string,
    giving: (entries: MetaTransfer['entries']) => Promise<void>,
  ): Promise<void> {
    this.#movingTo = to;
    this.#ports.giveAwayManager();
    try {
      await giving(await manager.stopAndExport());
    } catch (error) {
      // The note may be on disk although writing it failed: a later start would believe it.
      await this.#ports.remember({ metaHome: true, meta: null }, true);
      await this.#ports.startManager();
      throw error;
    } finally {
      this.#movingTo = null;
    }
  }

  #requireManager(what: string): ManagerHandle {
    const { meta } = this.#ports.identity();
    if (meta !== null) throw tideError('META_SHARED', { url: meta, what });
    const manager = this.#ports.manager();
    if (manager === null) throw tideError('META_MOVING', { to: this.#movingTo ?? 'its new home' });
    return manager;
  }

  /**
   * The next part of a meta store that another node gives to this one. Throws CLUSTER_MISMATCH, BAD_REQUEST,
   * STORE_TOO_NEW, META_FULL.
   */
  async receive(part: MetaPart): Promise<void> {
    await this.#turns.run('store', async () => {
      this.#requireWanted(part.clusterId);
      if (part.number === 0) await this.#ports.remember({ metaFrom: null });
      await this.#arrival.take(part);
      if (part.isLast) await this.#ports.remember({ metaFrom: part.from });
    });
  }

  /** The same in one piece. */
  async receiveWhole(transfer: MetaTransfer): Promise<void> {
    await this.receive({ ...transfer, transfer: 'whole', number: 0, isLast: true });
  }

  #requireWanted(clusterId: string): void {
    const identity = this.#ports.identity();
    if (clusterId !== identity.clusterId)
      throw tideError('CLUSTER_MISMATCH', { caller: clusterId, cluster: identity.clusterId });
    if (this.#ports.manager() === null && identity.meta === null) return;
    throw tideError('BAD_REQUEST', { what: 'meta store', why: 'this node has one, or the cluster keeps it in etcd' });
  }

  /** Runs the manager here, once, where the store that has come from that node is the newest. */
  async activate(from: number): Promise<void> {
    await this.#turns.run('store', async () => {
      const identity = this.#ports.identity();
      if (identity.metaFrom !== from || this.#ports.manager() !== null) return;
      await this.#arrival.drop();
      await this.#ports.remember({ metaFrom: null, metaHome: true, manager: identity.advertiseAddress });
      await this.#ports.startManager();
    });
  }
}
