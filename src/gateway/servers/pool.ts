import type { ServerAddress } from '../messages.ts';
import { HOME_QUESTION, type HomeFacts, readHomeFacts, SETTINGS_QUESTION } from './home-facts.ts';
import { type Execution, ServerConnection } from './server-connection.ts';

export interface PoolOptions {
  /** What sessions of this pool have said in their startup messages, `application_name` aside. */
  readonly parameters: ReadonlyMap<string, string>;
  /** The role as which statements are executed elsewhere: whoever asks has every right to every table. */
  readonly peer: string;
  readonly home: () => ServerAddress | null;
  readonly addressOf: (node: number) => ServerAddress | null;
}

/** Statements of one row each share connections: so many, each with so many under way. */
const SHARED_MAX = 4;
const SHARED_LOAD_WANTED = 4;
const SHARED_LOAD_MAX = 64;
/** Whoever is behind a statement that takes so long would wait for it: somebody's lock, most likely. */
const SHARED_WAIT_MS = 10;
/** Everything else has one to itself. */
const OWN_MAX = 32;
/** So long are settings and rights of a role believed, and connections kept. */
const FRESH_MS = 30_000;
const IDLE_MS = 10_000;
const LOOK_MS = 5_000;
const AGAIN_MS = 1_000;
const APPLICATION = 'pgtide gateway';

interface Kept {
  readonly connection: ServerConnection;
  readonly isShared: boolean;
  readonly bornMs: number;
  usedMs: number;
}

/**
 * Connections to all servers as one role with its settings. What is not there yet is made, and whoever
 * asked does without for this time.
 */
export class ServerPool {
  readonly #options: PoolOptions;
  readonly #kept = new Map<number, Set<Kept>>();
  readonly #opening = new Map<string, number>();
  readonly #notBeforeMs = new Map<string, number>();
  #facts: { readonly facts: HomeFacts; readonly atMs: number } | null = null;
  #asking = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Null while they are asked for. */
  get facts(): HomeFacts | null {
    const known = this.#facts;
    const ageMs = known === null ? Number.POSITIVE_INFINITY : performance.now() - known.atMs;
    if (ageMs > FRESH_MS / 2) void this.#ask();
    return ageMs > FRESH_MS ? null : (known?.facts ?? null);
  }

  /** Null: not now. `isShared`: it takes no longer than a row, and nobody is harmed who waits behind it. */
  execute(node: number, isShared: boolean, execution: Execution): { cancel(): void } | null {
    const found = isShared ? this.#shared(node, execution) : this.#own(node, execution);
    if (found === null) return null;
    found.usedMs = performance.now();
    found.connection.execute(execution);
    return found.connection;
  }

  /** Whoever waits for this node hears no more of it. */
  leave(node: number): void {
    for (const { connection } of this.#kept.get(node) ?? []) connection.close();
  }

  #shared(node: number, { text, types }: Execution): Kept | null {
    let best: Kept | null = null;
    let count = 0;
    for (const kept of this.#fresh(node)) {
      if (!kept.isShared) continue;
      count += 1;
      if (!kept.connection.knows(text, types) || kept.connection.waitedMs > SHARED_WAIT_MS) continue;
      if (best === null || kept.connection.load < best.connection.load) best = kept;
    }
    const load = best?.connection.load ?? SHARED_LOAD_MAX;
    if (load >= SHARED_LOAD_WANTED && count < SHARED_MAX) this.#open(node, true);
    return load < SHARED_LOAD_MAX ? best : null;
  }

  #own(node: number, { text, types }: Execution): Kept | null {
    let count = 0;
    for (const kept of this.#fresh(node)) {
      if (kept.isShared) continue;
      count += 1;
      if (kept.connection.load === 0 && kept.connection.knows(text, types)) return kept;
    }
    if (count < OWN_MAX) this.#open(node, false);
    return null;
  }

  *#fresh(node: number): Generator<Kept> {
    const oldestMs = performance.now() - FRESH_MS;
    for (const kept of this.#kept.get(node) ?? []) if (kept.bornMs > oldestMs) yield kept;
  }

  /** One at a time of each kind; after a failure, later. */
  #open(node: number, isShared: boolean): void {
    const key = `${node} ${isShared}`;
    const facts = this.facts;
    const address = this.#options.addressOf(node);
    if (facts === null || address === null || this.#opening.has(key)) return;
    if (performance.now() < (this.#notBeforeMs.get(key) ?? 0)) return;
    this.#opening.set(key, 1);
    const later = () => {
      this.#notBeforeMs.set(key, performance.now() + AGAIN_MS);
    };
    ServerConnection.open(address, this.#elsewhere(), SETTINGS_QUESTION)
      .then(({ connection, answer }) => {
        if (answer !== facts.settings) {
          connection.close();
          later();
          return;
        }
        const kept = { connection, isShared, bornMs: performance.now(), usedMs: performance.now() };
        const all = this.#kept.get(node) ?? new Set();
        this.#kept.set(node, all.add(kept));
        connection.onClose(() => all.delete(kept));
      })
      .catch(later)
      .finally(() => this.#opening.delete(key));
  }

  #elsewhere(): ReadonlyMap<string, string> {
    // On a hinge with its one child the defect of PostgreSQL 18.4 cannot strike for which servers plan anew
    // each time (`postgres/config.ts`), and generic plans are two to three times as fast.
    const own = { application_name: APPLICATION, options: '-c plan_cache_mode=auto' };
    return new Map([...this.#options.parameters, ...Object.entries({ ...own, user: this.#options.peer })]);
  }

  async #ask(): Promise<void> {
    const address = this.#options.home();
    if (this.#asking || address === null) return;
    this.#asking = true;
    try {
      const { connection, answer } = await ServerConnection.open(address, this.#options.parameters, HOME_QUESTION);
      connection.close();
      this.#facts = { facts: readHomeFacts(answer), atMs: performance.now() };
    } catch {
      // It is asked again when somebody wants to know.
    } finally {
      this.#asking = false;
    }
  }

  #look(): void {
    const nowMs = performance.now();
    for (const all of this.#kept.values()) {
      for (const { connection, bornMs, usedMs } of all) {
        const isOver = nowMs - bornMs > FRESH_MS || nowMs - usedMs > IDLE_MS;
        if (isOver && connection.load === 0) connection.close();
      }
    }
  }
}
