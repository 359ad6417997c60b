import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TideError } from '../core/errors.ts';
import { ownEnvironment } from '../postgres/environment.ts';
import type { SharedStore } from '../store/meta-store.ts';
import type { ManagerHandle, SeatGrant } from './manager-handle.ts';
import { NodeLease } from './node-lease.ts';
import { Seat } from './seat.ts';
import type { StartHolder } from './starts.ts';
import type { StoreDir } from './store-dir.ts';

export interface SharedMetaOptions {
  url: string;
  store: SharedStore;
  node: number;
  start: StartHolder;
  /** HOST:PORT under which the others reach this node. */
  address: string;
  directory: StoreDir;
  /** As in NodeLeaseOptions. */
  serving: boolean;
  isFenced(): boolean;
  startManager(grant: SeatGrant): Promise<ManagerHandle>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/**
 * A command waits this long for a manager to be there: a take-over takes no longer while a majority of the
 * store is up.
 */
const NO_MANAGER_MS = 10_000;
const LOOK_AGAIN_MS = 100;
const WATCHDOG_AGAIN_MS = 500;

/**
 * A node's part in a meta store that is shared: its lease with the watchdog, and its seat in the election.
 */
export class SharedMeta {
  readonly url: string;
  readonly seat: Seat;
  readonly lease: NodeLease;
  readonly #options: SharedMetaOptions;
  readonly #note: string;
  #watchdog: ReturnType<typeof spawn> | null = null;
  #ended = false;

  constructor(options: SharedMetaOptions) {
    const { url, store, node, start, address, directory, serving, isFenced, startManager, log } = options;
    this.#options = options;
    this.url = url;
    this.#note = join(directory.root, 'lease');
    this.seat = new Seat({ store, node, own: start, address, start: startManager, log });
    this.lease = new NodeLease({ store, node, start, file: this.#note, serving, isFenced, log });
  }

  async start(): Promise<void> {
    await this.lease.start();
    this.#watch();
    this.seat.start();
  }

  /** Gives the lease back: nobody is served here any more. */
  async endLease(): Promise<void> {
    this.#ended = true;
    await this.lease.end();
    this.#watchdog?.kill();
  }

  /** In a session of its own, so that what is done to the node's process is not done to it. */
  #watch(): void {
    const { directory, log } = this.#options;
    if (this.#ended) return;
    const script = fileURLToPath(new URL('./watchdog.js', import.meta.url));
    const child = spawn(process.execPath, [script, this.#note, directory.pgdata, String(process.pid)], {
      detached: true,
      stdio: 'ignore',
      env: ownEnvironment(),
    });
    this.#watchdog = child;
    child.unref();
    const again = (facts: object) => {
      if (this.#ended) return;
      log('warn', 'the watchdog does not run and is started again', facts);
      setTimeout(() => this.#watch(), WATCHDOG_AGAIN_MS).unref();
    };
    // One that could not be started does not exit.
    child.once('error', (error) => child.pid === undefined && again({ error: error.message }));
    child.once('exit', (status, signal) => again({ status, signal }));
  }

  /**
   * Sends to the manager, wherever that is, and waits where there is none. Only what has surely not been done
   * yet is sent again. Throws what the manager answers; NO_MANAGER_ELECTED when the time is up.
   */
  async withManager<T>(send: (address: string) => Promise<T>): Promise<T> {
    const untilMs = performance.now() + NO_MANAGER_MS;
    for (;;) {
      const { leader } = this.seat;
      try {
        if (leader !== null) return await send(leader);
      } catch (error) {
        if (!wasNotDone(error)) throw error;
      }
      if (performance.now() > untilMs) throw this.seat.noLeader();
      await sleep(LOOK_AGAIN_MS);
    }
  }
}

function wasNotDone(error: unknown): boolean {
  if (!(error instanceof TideError)) return false;
  return error.code === 'NO_MANAGER_ELECTED' || (error.code === 'UNREACHABLE' && error.details.refused === true);
}
