import { setTimeout as sleep } from 'node:timers/promises';
import type { BeatAnswer } from '../api/membership.ts';
import { messageOf } from '../core/errors.ts';
import type { PostgresServer } from '../postgres/server.ts';

/** Of a PostgresServer, what its fence is about. */
export type FencedServer = Pick<
  PostgresServer,
  'processId' | 'fenced' | 'letsIn' | 'isFenceRaised' | 'fence' | 'unfence' | 'crash'
>;

export interface FenceKeeperOptions {
  server: FencedServer;
  /**
   * The right to let anybody in, where the meta store is shared; null where it is embedded, and no lease is
   * needed.
   */
  lease(): { leftMs: number; graceMs: number } | null;
  /** The fence has been raised or lowered, which the manager waits to hear. */
  onChange(): void;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

const LOOK_MS = 100;

/**
 * Raises and lowers the fence of a node's PostgreSQL as the manager says, and as its lease allows
 * (docs/spec/leases.md, L6).
 */
export class FenceKeeper {
  readonly #options: FenceKeeperOptions;
  readonly #ending = new AbortController();
  #changing: Promise<void> | null = null;
  #watching: Promise<void> = Promise.resolve();

  constructor(options: FenceKeeperOptions) {
    this.#options = options;
  }

  start(): void {
    this.#watching = this.#watch();
  }

  async end(): Promise<void> {
    this.#ending.abort();
    await this.#watching;
    await this.#changing;
  }

  /**
   * `processId`: the server that the answer is about; a permission is nobody else's, least of all that of a
   * server started since.
   */
  obey(answer: BeatAnswer, processId: number | null): void {
    const { server, lease } = this.#options;
    if (processId === null || answer.fence === 'keep' || this.#ending.signal.aborted) return;
    const wanted = answer.fence === 'up';
    if (wanted ? server.fenced : server.letsIn) return;
    if (!wanted && lease()?.leftMs === 0) return;
    this.#change(wanted, processId);
  }

  /**
   * The fence goes up by itself when the lease has run out; the manager may have others lead by the time it
   * hears of it.
   */
  async #watch(): Promise<void> {
    const { server, lease } = this.#options;
    while (!this.#ending.signal.aborted) {
      const { processId } = server;
      const right = lease();
      if (right !== null && processId !== null && this.#changing === null) {
        // Raised by the watchdog, when this process could not: what that began is seen through, and told, as
        // if it were this process's own.
        const isRaised = await server.isFenceRaised();
        if (!server.fenced && (isRaised || right.graceMs === 0)) this.#change(true, processId);
      }
      await sleep(LOOK_MS, undefined, { signal: this.#ending.signal }).catch(() => {});
    }
  }

  #change(wanted: boolean, processId: number): void {
    if (this.#changing !== null) return;
    const { server, onChange, log } = this.#options;
    const change = wanted ? server.fence() : server.unfence(processId);
    this.#changing = change
      .then(() => log(wanted ? 'warn' : 'info', wanted ? 'PostgreSQL is fenced' : 'PostgreSQL serves', { processId }))
      .catch((error) => {
        log('error', 'the fence could not be changed', { error: messageOf(error) });
        // Others may lead from now on: a server that cannot be fenced, as on a full disk, must not serve. One
        // that has been started since is behind its fence.
        if (wanted && server.processId === processId) server.crash();
      })
      .finally(() => {
        this.#changing = null;
        onChange();
      });
  }
}

/**
 * What a node that does not serve yet waits for. A fenced one may have lost its partitions to others: it
 * serves when it knows.
 */
export function waitText(
  answer: BeatAnswer | null,
  fenced: boolean,
  leased: boolean,
  trouble: string | null = null,
): string {
  if (!leased) return 'waits for etcd to give it a lease; until then its PostgreSQL lets nobody in';
  if (!answer && trouble) return `is not taken for a member: ${trouble}`;
  if (!answer) return `waits for the manager to answer${fenced ? '; until then its PostgreSQL lets nobody in' : ''}`;
  if (answer.fence === 'up')
    return 'lets nobody in until what it led before has been taken from it (tide op ls, tide node recover)';
  return 'waits for the cluster to take it in (tide op ls)';
}
