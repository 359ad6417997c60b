import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { HeldLease } from '../store/held-lease.ts';
import type { SharedStore } from '../store/meta-store.ts';
import { SeatBoundStore } from '../store/seat-bound-store.ts';
import type { ManagerHandle, SeatGrant } from './manager-handle.ts';
import type { StartHolder } from './starts.ts';

/**
 * The key whose holder manages: made under a lease, and only where it does not exist. Its revision is the
 * manager's term.
 */
const SEAT = '/manager';
/**
 * How long the seat stays taken when its manager is gone, and so most of the time of a take-over. etcd gives
 * no lease below one and a half of its election timeouts (1.5 s by default), and a manager has to outlast an
 * election there.
 */
const SEAT_MS = 4_000;
/** Clocks of two machines run differently fast; nobody's by this much in four seconds. */
const SEAT_MARGIN_MS = 400;
const POLL_MS = 250;
const AGAIN_MS = 1_000;

/** HOST:PORT of the manager, for a node that has no seat yet; null: there is none. */
export async function leaderIn(store: SharedStore): Promise<string | null> {
  return ((await store.get(SEAT))?.value as SeatRecord | undefined)?.address ?? null;
}

export interface SeatPorts {
  store: SharedStore;
  node: number;
  own: StartHolder;
  /** HOST:PORT under which the others reach this node. */
  address: string;
  start(grant: SeatGrant): Promise<ManagerHandle>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

interface SeatRecord {
  node: number;
  address: string;
  lease: string;
  /** Which start of the node; programs of version 0.1 do not say. */
  start?: string;
}

/**
 * The election, as one node takes part in it: it looks which has the seat, takes it where none has, and runs
 * the manager for as long as its lease holds. A node that loses the lease lets go at once; operations are in
 * the journal, and the next manager goes on with them.
 */
export class Seat {
  readonly #ports: SeatPorts;
  readonly #ending = new AbortController();
  readonly #resigning = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #held: { lease: HeldLease; manager: ManagerHandle | null } | null = null;
  #leader: SeatRecord | null = null;
  #trouble: string | null = null;
  /** Why this node will not manage, whatever it tries: a newer program has written the store. */
  #unable: string | null = null;

  constructor(ports: SeatPorts) {
    this.#ports = ports;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** The manager, while it runs here and the seat is surely this node's. */
  get manager(): ManagerHandle | null {
    return this.#held !== null && this.#held.lease.leftMs > 0 ? this.#held.manager : null;
  }

  /** HOST:PORT of the manager as last seen; null: there was none. */
  get leader(): string | null {
    return this.#leader?.address ?? null;
  }

  /** HOST:PORT. Throws NO_MANAGER_ELECTED. */
  requireLeader(): string {
    if (this.leader === null) throw this.noLeader();
    return this.leader;
  }

  /** Why there is no manager, or why it cannot be known. */
  noLeader(): Error {
    return tideError('NO_MANAGER_ELECTED', {
      why: this.#trouble ?? this.#unable ?? 'the last one is gone, and its seat is not free yet',
    });
  }

  /**
   * Gives the seat back and does not take it any more: the next manager need not wait for the lease to run
   * out.
   */
  resign(): void {
    this.#resigning.abort();
  }

  /** Resigns, and looks no more. */
  async end(): Promise<void> {
    this.resign();
    this.#ending.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#ending.signal.aborted) {
      try {
        await this.#look();
      } catch (error) {
        this.#say('warn', messageOf(error));
      }
      await this.#pause(POLL_MS);
    }
  }

  /** Said once, not with every look. */
  #say(level: 'info' | 'warn', trouble: string | null): void {
    if (trouble === this.#trouble || (trouble !== null && this.#trouble !== null)) return;
    this.#ports.log(level, trouble === null ? 'the meta store answers' : 'the meta store does not answer', {
      why: trouble,
    });
    this.#trouble = trouble;
  }

  async #look(): Promise<void> {
    const { store, node, own } = this.#ports;
    const found = await store.get(SEAT);
    this.#say('info', null);
    this.#leader = (found?.value as SeatRecord | undefined) ?? null;
    if (found === null && !this.#resigning.signal.aborted) return this.#campaign();
    // Left behind by an earlier process of this node. What may be another copy's, alive, runs out by itself
    // if it is not.
    const start = this.#leader?.start;
    if (found !== null && this.#leader?.node === node && start !== undefined && own.mayHave(start))
      await store.txn({ when: [{ key: SEAT, revision: found.revision }], write: [{ delete: SEAT }] });
  }

  async #campaign(): Promise<void> {
    const { store, node, own, address } = this.#ports;
    const lease = await HeldLease.grant(store, { ttlMs: SEAT_MS, marginMs: SEAT_MARGIN_MS });
    try {
      const value: SeatRecord = { node, address, lease: lease.id, start: own.id };
      await store.txn({ when: [{ key: SEAT, revision: 0 }], write: [{ put: SEAT, value, lease: lease.id }] });
      // Asked anew, since the answer to a repeated write does not say whose it was.
      const seat = await store.get(SEAT);
      if (seat === null || (seat.value as SeatRecord).lease !== lease.id) return;
      this.#leader = value;
      await this.#manage(lease, seat.revision);
    } finally {
      this.#held = null;
      await lease.end();
    }
  }

  async #manage(lease: HeldLease, term: number): Promise<void> {
    const { store, node, start, log } = this.#ports;
    let giveUp: (why: string) => void = () => {};
    const givenUp = new Promise<string>((resolve) => {
      giveUp = resolve;
    });
    const bound = new SeatBoundStore(store, { key: SEAT, revision: term }, node, () => giveUp('a write was refused'));
    let manager: ManagerHandle;
    try {
      manager = await start({ store: bound, term, leftMs: () => lease.leftMs, giveUp });
    } catch (error) {
      bound.lose();
      log('error', 'the manager could not start', { term, error: messageOf(error) });
      if (error instanceof TideError && error.code === 'STORE_TOO_NEW') {
        this.#unable = `node ${node} cannot manage: ${error.message}; ${error.hint}`;
        return this.resign();
      }
      await this.#pause(AGAIN_MS);
      return;
    }
    this.#held = { lease, manager };
    log('info', 'this node manages the cluster', { term });
    const resigned = new Promise<null>((resolve) => {
      if (this.#resigning.signal.aborted) resolve(null);
      this.#resigning.signal.addEventListener('abort', () => resolve(null), { once: true });
    });
    const why = await Promise.race([resigned, lease.lost, givenUp]);
    this.#held = null;
    this.#leader = null;
    if (why === null) return manager.stop();
    bound.lose();
    log('warn', 'this node does not manage the cluster any more', { term, why });
    await manager.abandon();
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#ending.signal }).catch(() => {});
  }
}
