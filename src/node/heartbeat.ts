import { setTimeout as sleep } from 'node:timers/promises';
import { ask, whoIs } from '../api/http-client.ts';
import type { BeatAnswer, BeatReport, JoinAnswer, NodeFacts, WhoAmI } from '../api/membership.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import type { ApplyErrors } from '../postgres/apply-errors.ts';
import { ownServer } from '../postgres/connect.ts';
import { KeptSession } from '../postgres/kept-session.ts';
import { META_FORMAT } from '../store/meta-store.ts';
import { diskOf } from './facts.ts';
import type { ManagerHandle } from './manager-handle.ts';
import { SessionWatch, type SessionWatchOptions } from './session-watch.ts';
import type { ManagedBy } from './starts.ts';

const BEAT_MS = 500;
/** Where the manager waits for it. */
const BEAT_SOON_MS = 100;
const CALL_MS = 2_000;
const CHECK_MS = 1_500;
/** Between two searches for a manager that does not answer. */
const SEEK_MS = 2_000;
/** It is not there, or not any more. */
const LOST: ReadonlySet<string> = new Set(['UNREACHABLE', 'NO_MANAGER']);
const REFUSALS: ReadonlySet<string> = new Set(['NODE_INCOMPATIBLE', 'NODE_TWICE', 'NODE_OVERTAKEN']);

export interface HeartbeatOptions {
  nodeId: number;
  clusterId: string;
  facts: NodeFacts;
  store: string;
  server: BeatenServer;
  /** What workers of replication fail at there. */
  applyErrors: Pick<ApplyErrors, 'look'>;
  /** What clients are told that are ended for a deadlock. */
  clients: SessionWatchOptions['clients'];
  /** Id of this start. */
  start: string;
  managedBy(): ManagedBy | null;
  /** Asks the manager whether this start may be the node. Throws what speaks against it. */
  askToStart(): Promise<void>;
  manager(): ManagerHandle | null;
  /** HOST:PORT. Throws where nobody manages. */
  managerAddress(): string;
  /** The manager is not where it was: looks for it. */
  seekManager(): Promise<void>;
  leased(): boolean;
  /** `processId`: that of the server the beat was about. */
  onAnswer(answer: BeatAnswer, processId: number | null): void;
  /** The manager does not understand this version, or knows another start of this node. */
  onRefused(error: TideError): void;
  log(level: 'info' | 'warn', message: string, facts: object): void;
}

/** The PostgreSQL that a beat tells about. */
export interface BeatenServer {
  readonly port: number;
  readonly processId: number | null;
  readonly fenced: boolean;
}

/** Tells the manager every half second that this node is there, and whether its PostgreSQL answers. */
export class Heartbeat {
  readonly #options: HeartbeatOptions;
  readonly #sessions: SessionWatch;
  #seekAtMs = 0;
  /** A server that is frozen does not answer it, one that is full has it already. */
  readonly #check: KeptSession;
  #answer: BeatAnswer | null = null;
  #timer: NodeJS.Timeout | null = null;
  #beating: Promise<void> = Promise.resolve();
  #ended = false;
  #failing = false;
  #trouble: string | null = null;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
    this.#sessions = new SessionWatch(options);
    const waits = { connectMs: CHECK_MS, answerMs: CHECK_MS };
    this.#check = new KeptSession(() => ownServer(options.server), { name: 'pgtide heartbeat', ...waits });
  }

  /** Why the manager does not take this node's beats; null where it does, or does not answer. */
  get trouble(): string | null {
    return this.#trouble;
  }

  start(): void {
    this.#beating = this.#beat();
  }

  /** Beats at once: something has changed that the manager waits for. */
  hurry(): void {
    if (this.#timer === null || this.#ended) return;
    clearTimeout(this.#timer);
    this.start();
  }

  /** Ends with a last word, so that no plan counts on this node while its silence is not noticed yet. */
  async end(): Promise<void> {
    this.#ended = true;
    if (this.#timer) clearTimeout(this.#timer);
    await this.#beating;
    await this.#tell(false).catch(() => {});
    await Promise.all([this.#check.close(), this.#sessions.close()]);
  }

  async #tell(postgresUp: boolean): Promise<BeatAnswer> {
    const { nodeId, clusterId, facts, store, server, leased } = this.#options;
    const applyErrors = await this.#options.applyErrors.look();
    const disk = await diskOf(store);
    const said = { postgresUp, fenced: server.fenced, leased: leased(), metaFormat: META_FORMAT };
    const answeredMs = this.#answer?.heardAtMs ?? null;
    const sessions = postgresUp ? await this.#sessions.look() : null;
    const { start } = this.#options;
    const managedBy = this.#options.managedBy();
    const report: BeatReport = {
      node: nodeId,
      clusterId,
      ...said,
      ...disk,
      facts,
      sessions,
      answeredMs,
      applyErrors,
      start,
      managedBy,
    };
    try {
      return await this.#send(report);
    } catch (error) {
      if (!(error instanceof TideError) || error.code !== 'NODE_NOT_ADMITTED' || this.#ended) throw error;
      await this.#options.askToStart();
      return this.#send(report);
    }
  }

  async #send(report: BeatReport): Promise<BeatAnswer> {
    const { clusterId, manager, managerAddress } = this.#options;
    const local = manager();
    if (local) return local.beat(report);
    return ask(managerAddress(), 'beat', report, { timeoutMs: CALL_MS, cluster: clusterId });
  }

  async #beat(): Promise<void> {
    const { server, onAnswer, log } = this.#options;
    this.#timer = null;
    try {
      const { processId } = server;
      const postgresUp = await this.#postgresUp();
      const sentMs = performance.now();
      const answer = await this.#tell(postgresUp);
      // A process that was frozen meanwhile must not act on what a manager said that may have been replaced
      // since.
      if (performance.now() - sentMs > CALL_MS)
        throw tideError('UNREACHABLE', { address: 'manager', why: 'its answer is old' });
      if (this.#failing) log('info', 'the manager answers again', { manager: answer.manager });
      this.#failing = false;
      this.#trouble = null;
      this.#answer = answer;
      onAnswer(answer, processId);
      await this.#sessions.end(answer.deadlocks ?? []);
    } catch (error) {
      if (error instanceof TideError && REFUSALS.has(error.code)) this.#options.onRefused(error);
      const isRefused = error instanceof TideError && error.retry !== 'later';
      this.#trouble = isRefused ? messageOf(error) : null;
      const what = isRefused ? 'the manager refuses this node' : 'the manager does not answer';
      if (!this.#failing && !this.#ended) log('warn', what, { error: messageOf(error) });
      this.#failing = true;
      this.#answer = null;
      if (error instanceof TideError && LOST.has(error.code)) await this.#seek();
    }
    if (!this.#ended) this.#timer = setTimeout(() => this.start(), this.#answer?.soon ? BEAT_SOON_MS : BEAT_MS);
  }

  async #seek(): Promise<void> {
    if (this.#ended || performance.now() < this.#seekAtMs) return;
    await this.#options.seekManager().catch(() => {});
    this.#seekAtMs = performance.now() + SEEK_MS;
  }

  async #postgresUp(): Promise<boolean> {
    return this.#check.query('select 1').then(
      () => true,
      () => false,
    );
  }
}

/** Asks `addresses` which nodes they are, until one answers that `isWanted`. Throws the last failure. */
export async function askAny(
  addresses: readonly string[],
  isWanted: (found: WhoAmI, address: string) => boolean,
): Promise<WhoAmI> {
  let last: unknown = new Error('no address was given');
  for (const address of addresses) {
    try {
      const found = await whoIs(address, { timeoutMs: CALL_MS });
      if (isWanted(found, address)) return found;
    } catch (error) {
      if (error instanceof TideError && error.code !== 'UNREACHABLE' && error.retry === 'never') throw error;
      last = error;
    }
  }
  throw last;
}

const JOIN_AGAIN_MS = 500;

/**
 * Asks the manager to take a new node in. It may be on its way to another node, or starting again: for
 * `triesMs` it is asked once more, wherever `findManager` (HOST:PORT) then says it is. Throws the last
 * failure.
 */
export async function join(
  facts: NodeFacts,
  manager: string,
  findManager: () => Promise<string | undefined>,
  triesMs: number,
): Promise<JoinAnswer> {
  const untilMs = performance.now() + triesMs;
  for (let address = manager; ; address = (await findManager()) ?? address) {
    try {
      return await ask(address, 'join', facts);
    } catch (error) {
      if (!(error instanceof TideError) || error.retry !== 'later' || performance.now() > untilMs) throw error;
    }
    await sleep(JOIN_AGAIN_MS);
  }
}
