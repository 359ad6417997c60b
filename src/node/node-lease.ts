import { readFile, rename, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, tideError } from '../core/errors.ts';
import { HeldLease } from '../store/held-lease.ts';
import type { SharedStore } from '../store/meta-store.ts';
import { leaseHolder, putLease } from '../store/node-leases.ts';
import type { StartHolder } from './starts.ts';

/** Before the manager has said how long it is to be (`node.lease`). */
const FIRST_SECONDS = 10;
/**
 * By when before its end in the store nobody may be let in any more: what it takes to raise the fence and end
 * all sessions, and twice that.
 */
const FENCE_MS = 3_000;
const AGAIN_MS = 300;
const LOOK_MS = 50;

/** What the watchdog reads: who keeps the lease, and until when it holds on the system's monotonic clock. */
export interface LeaseNote {
  owner: number;
  untilMs: number;
}

/** Milliseconds of the clock that nobody sets, the same for all processes of a boot. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

export async function readLeaseNote(file: string): Promise<LeaseNote | null> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as LeaseNote;
  } catch {
    return null;
  }
}

export interface NodeLeaseOptions {
  store: SharedStore;
  node: number;
  start: StartHolder;
  /** Where the watchdog looks. */
  file: string;
  /**
   * The node has served without a lease so far, from an embedded store: nobody expects one of it before it
   * has had its first.
   */
  serving: boolean;
  /** Nobody is let into its PostgreSQL, or it does not run. */
  isFenced(): boolean;
  log(level: 'info' | 'warn', message: string, facts: object): void;
}

/**
 * A node's right to let anybody into its PostgreSQL, where the meta store is shared (docs/spec/leases.md,
 * L6): another node may lead in its place once the store has seen its lease run out. It is kept alive by the
 * process, and noted for the watchdog, which acts when the process cannot.
 */
export class NodeLease {
  readonly #options: NodeLeaseOptions;
  readonly #ending = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #held: HeldLease | null = null;
  #seconds = FIRST_SECONDS;
  #lengthChanged: () => void = () => {};
  /** Of the process before: its server goes on until then. */
  #inheritedUntilMs = 0;
  #failing = false;
  #noted: Promise<void> = Promise.resolve();

  constructor(options: NodeLeaseOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    this.#inheritedUntilMs = (await readLeaseNote(this.#options.file))?.untilMs ?? 0;
    this.#running = this.#keep();
  }

  /** Milliseconds for which this process may let anybody in. */
  get leftMs(): number {
    return this.#held?.leftMs ?? 0;
  }

  /**
   * Milliseconds for which those who were let in may stay: a restarted process has what is left of the lease
   * of the one before.
   */
  get graceMs(): number {
    if (this.#options.serving && this.#held === null) return Number.POSITIVE_INFINITY;
    return Math.max(this.leftMs, this.#inheritedUntilMs - monotonicMs(), 0);
  }

  /** How long the lease is to be, seconds. */
  setLength(seconds: number): void {
    if (seconds === this.#seconds) return;
    this.#seconds = seconds;
    this.#lengthChanged();
  }

  /** Gives it back: to be called when nobody is served any more. */
  async end(): Promise<void> {
    this.#ending.abort();
    await this.#running;
    await this.#noted;
    await this.#held?.end();
    this.#held = null;
  }

  async #keep(): Promise<void> {
    const { log } = this.#options;
    const ended = new Promise<void>((resolve) => {
      this.#ending.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    while (!this.#ending.signal.aborted) {
      try {
        const changed = new Promise<void>((resolve) => {
          this.#lengthChanged = resolve;
        });
        await this.#fenced();
        const lease = await this.#take();
        if (this.#failing) log('info', 'the node has a lease again', { lease: lease.id });
        this.#failing = false;
        const why = await Promise.race([lease.lost, changed, ended]);
        if (typeof why !== 'string') continue;
        this.#failing = true;
        log('warn', 'the node has lost its lease: its PostgreSQL lets nobody in', { why });
      } catch (error) {
        if (!this.#failing) log('warn', 'the node gets no lease', { error: messageOf(error) });
        this.#failing = true;
        await sleep(AGAIN_MS, undefined, { signal: this.#ending.signal }).catch(() => {});
      }
    }
  }

  /**
   * A right that has lapsed is not followed by a new one while anybody is let in: others may lead in the
   * node's place, and whoever woke up just now would go on being served without ever having been fenced.
   */
  async #fenced(): Promise<void> {
    const { isFenced } = this.#options;
    while (this.graceMs === 0 && !isFenced() && !this.#ending.signal.aborted)
      await sleep(LOOK_MS, undefined, { signal: this.#ending.signal }).catch(() => {});
  }

  /** A new lease in place of the one there is: the key goes over to it before the old one ends. */
  async #take(): Promise<HeldLease> {
    const { store, node, start } = this.#options;
    const before = this.#held;
    const holder = await leaseHolder(store, node);
    // Of a program of version 0.1 nobody knows whose it was.
    if (holder && holder.start !== null && !start.mayHave(holder.start))
      throw tideError('META_REFUSED', { why: 'another start of this node holds its lease' });
    const lease = await HeldLease.grant(store, {
      ttlMs: this.#seconds * 1_000,
      marginMs: FENCE_MS,
      onRenew: (renewed) => this.#note(renewed),
    });
    try {
      const mine = { node, start: start.id, lease: lease.id, revision: holder?.revision ?? 0 };
      if (!(await putLease(store, mine))) throw tideError('META_REFUSED', { why: 'its lease was changed meanwhile' });
    } catch (error) {
      await lease.end();
      throw error;
    }
    this.#held = lease;
    // The process before has nothing left to grant; after a reboot what it noted is of another clock.
    this.#inheritedUntilMs = 0;
    this.#note(lease);
    await before?.end();
    return lease;
  }

  /** A note that is not written leaves the older one, by which the watchdog acts too early: safe. */
  #note(lease: HeldLease): void {
    const { file, log } = this.#options;
    const write = async () => {
      const note: LeaseNote = { owner: process.pid, untilMs: monotonicMs() + Math.floor(lease.leftMs) };
      await writeFile(`${file}.new`, JSON.stringify(note));
      await rename(`${file}.new`, file);
    };
    // Two at once would write into one file.
    this.#noted = this.#noted
      .then(write)
      .catch((error) => log('warn', 'the lease could not be noted for the watchdog', { error: messageOf(error) }));
  }
}
