import { connect } from 'node:net';
import type { ServerAddress } from '../messages.ts';
import { type Execution, type Running, ServerConnection, type Statement } from './server-connection.ts';

export interface PoolOptions {
  /** With which startup parameters its connections begin. */
  readonly parameters: ReadonlyMap<string, string>;
  /** What they answer when they are asked, if they are as they should be. */
  readonly check: { readonly question: string; readonly answer: string };
  readonly addressOf: (node: number) => ServerAddress | null;
  /** Statements of one row each share connections: so many to a node. */
  readonly sharedMax: number;
  /** Everything else has one to itself: so many to a node. */
  readonly ownMax: number;
}

/** Shared connections with so many statements under way are enough, or too many. */
const SHARED_LOAD_WANTED = 8;
const SHARED_LOAD_MAX = 64;
/** Whoever is behind a statement that takes so long would wait for it: somebody's lock, most likely. */
const SHARED_WAIT_MS = 10;
/** So long are settings of a server believed, and connections kept. */
const FRESH_MS = 30_000;
const IDLE_MS = 10_000;
const LOOK_MS = 5_000;
const AGAIN_MS = 1_000;
/** A server that takes so long may be gone: no other connection to it within so long, twice. */
const SILENT_MS = 8_000;
const PROBE_MS = 2_000;
const PROBES = 2;

interface Kept {
  readonly connection: ServerConnection;
  readonly isShared: boolean;
  readonly bornMs: number;
  usedMs: number;
  probesFailed: number;
}

/**
 * Connections to all servers with the same settings. What is not there yet is made, and whoever asked does
 * without for this time.
 */
export class ServerPool {
  readonly #options: PoolOptions;
  readonly #kept = new Map<number, Set<Kept>>();
  readonly #opening = new Set<string>();
  readonly #notBeforeMs = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;
  #isClosed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#look(), LOOK_MS).unref();
  }

  /** Null: not now. `isShared`: it takes no longer than a row, and nobody is harmed who waits behind it. */
  execute(node: number, isShared: boolean, execution: Execution): Running | null {
    const nowMs = performance.now();
    const found = this.#find(node, isShared, execution.statement, nowMs);
    if (found === null) return null;
    found.usedMs = nowMs;
    return found.connection.execute(execution);
  }

  /** Whoever waits for this node hears no more of it. */
  leave(node: number): void {
    for (const { connection } of this.#kept.get(node) ?? []) connection.lose(`node ${node} is out`);
  }

  /** Nobody uses it any more. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    for (const all of this.#kept.values()) for (const { connection } of all) connection.lose('it was closed');
  }

  #find(node: number, isShared: boolean, statement: Statement, nowMs: number): Kept | null {
    const { sharedMax, ownMax } = this.#options;
    const loadMax = isShared ? SHARED_LOAD_MAX : 1;
    let best: Kept | null = null;
    let count = 0;
    for (const kept of this.#kept.get(node) ?? []) {
      if (kept.isShared !== isShared) continue;
      const { connection } = kept;
      const isOfUse = nowMs - kept.bornMs <= FRESH_MS && connection.takes(statement);
      if (!isOfUse && connection.load === 0) {
        connection.lose('it was closed');
        continue;
      }
      count += 1;
      if (!isOfUse || connection.load >= loadMax) continue;
      if (isShared && connection.load > 0 && connection.waitedMs(nowMs) > SHARED_WAIT_MS) continue;
      if (best === null || connection.load < best.connection.load) best = kept;
    }
    const isEnough = best !== null && (!isShared || best.connection.load < SHARED_LOAD_WANTED);
    if (!isEnough && count < (isShared ? sharedMax : ownMax)) this.#open(node, isShared);
    return best;
  }

  /** One at a time of each kind; after a failure, later. */
  #open(node: number, isShared: boolean): void {
    const { addressOf, parameters, check } = this.#options;
    const key = `${node} ${isShared}`;
    const address = addressOf(node);
    const nowMs = performance.now();
    if (address === null || this.#opening.has(key) || nowMs < (this.#notBeforeMs.get(key) ?? 0)) return;
    this.#opening.add(key);
    const later = () => {
      this.#notBeforeMs.set(key, performance.now() + AGAIN_MS);
    };
    ServerConnection.open(address, parameters, check.question)
      .then(({ connection, answer }) => {
        if (answer === check.answer && !this.#isClosed) this.#keep(node, isShared, connection);
        else {
          connection.lose('its settings are others');
          later();
        }
      })
      .catch(later)
      .finally(() => this.#opening.delete(key));
  }

  #keep(node: number, isShared: boolean, connection: ServerConnection): void {
    const nowMs = performance.now();
    const kept = { connection, isShared, bornMs: nowMs, usedMs: nowMs, probesFailed: 0 };
    const all = this.#kept.get(node) ?? new Set();
    this.#kept.set(node, all.add(kept));
    connection.onClose(() => all.delete(kept));
  }

  #look(): void {
    const nowMs = performance.now();
    for (const [node, all] of this.#kept) {
      for (const kept of all) {
        const { connection, bornMs, usedMs } = kept;
        const isOver = nowMs - bornMs > FRESH_MS || nowMs - usedMs > IDLE_MS;
        if (connection.load > 0) this.#probe(node, kept, nowMs);
        else if (isOver) connection.lose('it was closed');
      }
    }
  }

  /** A server without power answers nothing, and no connection to it ends by that. */
  #probe(node: number, kept: Kept, nowMs: number): void {
    const address = this.#options.addressOf(node);
    if (address === null || kept.connection.waitedMs(nowMs) < SILENT_MS) {
      kept.probesFailed = 0;
      return;
    }
    const socket = connect({ ...address, timeout: PROBE_MS });
    const over = (isThere: boolean) => {
      socket.destroy();
      kept.probesFailed = isThere ? 0 : kept.probesFailed + 1;
      if (kept.probesFailed >= PROBES) kept.connection.lose(`node ${node} does not answer`);
    };
    socket.once('connect', () => over(true));
    socket.once('timeout', () => over(false));
    socket.once('error', () => over(false));
  }
}
