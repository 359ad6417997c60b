import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../core/errors.ts';
import type { SharedStore } from './meta-store.ts';

/**
 * A lease is renewed this many times in its length, and a long one every second: what is left when the store
 * fails is what it may be away.
 */
const RENEWALS = 5;
const RENEW_MS_MAX = 1_000;
const RETRY_MS = 100;

/**
 * A lease that this process keeps alive. How long it holds is reckoned from before each renewal was sent, on
 * a clock that nobody sets, so that the store ends it later than its holder thinks: after `marginMs` more, by
 * which the holder has stopped what it does under the lease.
 */
export class HeldLease {
  readonly id: string;
  readonly #store: SharedStore;
  readonly #ttlMs: number;
  readonly #marginMs: number;
  readonly #ending = new AbortController();
  readonly #onRenew: (lease: HeldLease) => void;
  /**
   * Resolves when the lease is held no more, with the reason. Only a process that runs hears it in time:
   * `leftMs` is what counts.
   */
  readonly lost: Promise<string>;
  #untilMs: number;

  private constructor(id: string, sentMs: number, store: SharedStore, options: HeldLeaseOptions) {
    this.id = id;
    this.#store = store;
    this.#ttlMs = options.ttlMs;
    this.#marginMs = options.marginMs;
    this.#onRenew = options.onRenew ?? (() => {});
    this.#untilMs = sentMs + options.ttlMs - options.marginMs;
    this.lost = Promise.race([this.#renew(), this.#runOut()]);
  }

  /** Throws what the store throws. */
  static async grant(store: SharedStore, options: HeldLeaseOptions): Promise<HeldLease> {
    const sentMs = performance.now();
    return new HeldLease(await store.grant(options.ttlMs), sentMs, store, options);
  }

  /** Milliseconds for which it surely holds; 0: act under it no more. */
  get leftMs(): number {
    return this.#ending.signal.aborted ? 0 : Math.max(0, this.#untilMs - performance.now());
  }

  /** Ends it, in the store too where that answers; else it runs out there. */
  async end(): Promise<void> {
    this.#ending.abort();
    await this.#store.revoke(this.id).catch(() => {});
  }

  async #renew(): Promise<string> {
    const everyMs = Math.min(this.#ttlMs / RENEWALS, RENEW_MS_MAX);
    let pauseMs = everyMs;
    for (;;) {
      await sleep(pauseMs, undefined, { signal: this.#ending.signal }).catch(() => {});
      if (this.#ending.signal.aborted) return 'it was given back';
      const sentMs = performance.now();
      try {
        if (!(await this.#store.keepAlive(this.id))) return this.#lose('it has run out in the store');
        if (this.leftMs === 0) return this.#lose('it was renewed too late');
        this.#untilMs = sentMs + this.#ttlMs - this.#marginMs;
        this.#onRenew(this);
        pauseMs = everyMs;
      } catch (error) {
        if (this.leftMs === 0) return this.#lose(messageOf(error));
        pauseMs = RETRY_MS;
      }
    }
  }

  async #runOut(): Promise<string> {
    while (this.leftMs > 0) await sleep(this.leftMs, undefined, { signal: this.#ending.signal }).catch(() => {});
    return this.#lose('it could not be renewed in time');
  }

  #lose(why: string): string {
    this.#ending.abort();
    return why;
  }
}

export interface HeldLeaseOptions {
  ttlMs: number;
  /** How much earlier than the store the holder stops. */
  marginMs: number;
  /** Called after every renewal. */
  onRenew?: (lease: HeldLease) => void;
}
