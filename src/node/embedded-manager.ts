import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../core/errors.ts';
import type { ManagerHandle } from './manager-handle.ts';

export interface EmbeddedManagerPorts {
  /** `broken`: what is started cannot go on, and another has to. */
  start(broken: (why: unknown) => void): Promise<ManagerHandle>;
  log(level: 'error', message: string, facts: object): void;
}

/** A defect that comes up again at once must not keep the machine busy. */
const AGAIN_MS = 1_000;

/**
 * The manager on this node's own meta store. One that cannot go on is let go of, and another begins with what
 * is stored.
 */
export class EmbeddedManager {
  readonly #ports: EmbeddedManagerPorts;
  readonly #ending = new AbortController();
  #handle: ManagerHandle | null = null;
  #replacing: Promise<void> = Promise.resolve();

  constructor(ports: EmbeddedManagerPorts) {
    this.#ports = ports;
  }

  /** Null: none has been started, it was given away, or the next one is about to start. */
  get handle(): ManagerHandle | null {
    return this.#handle;
  }

  /** Throws what keeps the first one from starting. */
  async start(): Promise<void> {
    let isBroken = false;
    let handle: ManagerHandle | null = null;
    const broken = (why: unknown) => {
      this.#ports.log('error', 'this node ends its manager, and starts another', { why: messageOf(why) });
      isBroken = true;
      if (handle !== null) this.#replace(handle);
    };
    handle = await this.#ports.start(broken);
    this.#handle = handle;
    if (isBroken) this.#replace(handle);
  }

  /** Somebody else stops it. */
  giveAway(): void {
    this.#handle = null;
  }

  /** Stops it, and starts no other. */
  async end(): Promise<void> {
    this.#ending.abort();
    await this.#replacing;
    await this.#handle?.stop();
  }

  #replace(broken: ManagerHandle): void {
    if (this.#handle !== broken || this.#ending.signal.aborted) return;
    this.#handle = null;
    this.#replacing = this.#startNext(broken);
  }

  async #startNext(broken: ManagerHandle): Promise<void> {
    const { log } = this.#ports;
    const { signal } = this.#ending;
    await broken
      .abandon()
      .catch((error) => log('error', 'the manager has not ended well', { error: messageOf(error) }));
    while (!signal.aborted) {
      await sleep(AGAIN_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      try {
        return await this.start();
      } catch (error) {
        log('error', 'the manager could not start', { error: messageOf(error) });
      }
    }
  }
}
