import { ask } from '../api/http-client.ts';
import type { BeatAnswer, StartRequest, WhoAmI } from '../api/membership.ts';
import { must } from '../core/assert.ts';
import { TideError } from '../core/errors.ts';
import { endLeftBehind } from '../postgres/postmaster.ts';
import type { SharedStore } from '../store/meta-store.ts';
import { ASK_MS, askToStart, startRequestOf } from './ask-to-start.ts';
import type { ManagerHandle } from './manager-handle.ts';
import { Starts } from './starts.ts';
import type { NodeIdentity, StoreDir } from './store-dir.ts';

export interface OwnStartPorts {
  store: StoreDir;
  /** HOST:PORT under which the others reach this node. */
  address: string;
  identity(): NodeIdentity | null;
  /** The manager, where it runs in this process. */
  managerHere(): ManagerHandle | null;
  /** HOST:PORT. Throws where nobody manages. */
  managerAddress(): string;
  openShared(url: string): SharedStore;
  /** The process was told to end. */
  ended(): boolean;
  log(level: 'warn', message: string, facts: object): void;
  say(text: string): void;
}

/** This start of the node: what others hear of it, what it hears of others, and what it asks. */
export class OwnStart {
  readonly starts: Starts;
  readonly #ports: OwnStartPorts;
  #heardMs: number | null = null;
  /** Where the last other start of this node was that was heard of. */
  #twin: string | null = null;

  private constructor(ports: OwnStartPorts, starts: Starts) {
    this.#ports = ports;
    this.starts = starts;
  }

  /** To be called by who holds the lock of the store. Errors as of `Starts.begin`. */
  static async begin(ports: OwnStartPorts): Promise<OwnStart> {
    return new OwnStart(ports, await Starts.begin(ports.store));
  }

  /** What `whoami` tells of it. */
  told(): Required<Pick<WhoAmI, 'start' | 'managedBy'>> {
    const { id, managedBy } = this.starts;
    const agoMs = this.#heardMs === null ? null : Math.round(performance.now() - this.#heardMs);
    return { start: id, managedBy: managedBy && { ...managedBy, agoMs } };
  }

  /**
   * A member asks whether it is the only one of its name; what its store has left running is no member where
   * it is not.
   */
  async ask(peer: WhoAmI | null, meta: string | null): Promise<void> {
    const { identity, openShared, ended, say, store } = this.#ports;
    const known = identity();
    if (known === null) return;
    const { advertiseAddress: lastAddress, peers } = known;
    const at = meta === null ? { at: peer?.manager ?? known.manager } : { in: openShared(meta) };
    const manager = meta === null && known.metaHome ? 'here' : at;
    try {
      await askToStart({ ...this.#asking(), lastAddress, peers, manager, ended, say });
    } catch (error) {
      const isNot = error instanceof TideError && (error.code === 'NODE_TWICE' || error.code === 'NODE_OVERTAKEN');
      if (isNot) await endLeftBehind(store.pgdata);
      throw error;
    }
  }

  /** Asks for a heartbeat that the manager does not take before. Throws what speaks against this start. */
  async askAgain(): Promise<void> {
    const { managerHere, managerAddress } = this.#ports;
    const request = startRequestOf(this.#asking());
    const local = managerHere();
    if (local) await local.admit(request);
    else await ask(managerAddress(), 'start', request, { timeoutMs: ASK_MS, cluster: request.clusterId });
    await this.starts.admit();
  }

  /** A start of some node asks; where it is another one of this node, somebody has copied the store. */
  hearStart({ node, address, start }: StartRequest): void {
    if (node === this.#ports.identity()?.nodeId) this.#hearTwin(start.id, address);
  }

  async hear({ twin, managedBy }: BeatAnswer): Promise<void> {
    if (twin) this.#hearTwin(twin.id, twin.address);
    this.#heardMs = performance.now();
    if (managedBy) await this.starts.heardManager(managedBy);
  }

  /** Said once of each place: something may start it there again and again. */
  #hearTwin(id: string, address: string): void {
    if (address === this.#twin || id === this.starts.id) return;
    this.#twin = address;
    const text = 'this node was started a second time, from a copy of its store; that one is refused';
    this.#ports.log('warn', text, { address });
  }

  #asking(): { node: number; clusterId: string; address: string; starts: Starts } {
    const { nodeId: node, clusterId } = must(this.#ports.identity(), 'identity');
    return { node, clusterId, address: this.#ports.address, starts: this.starts };
  }
}
