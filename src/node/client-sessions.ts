import type { ServerAddress, SessionKind, Verdict, Who } from '../gateway/messages.ts';
import { AWAY, notForClients, tooManyClients } from '../gateway/refuse.ts';
import { OWN_ROLES, TIDE_DATABASE, TIDE_PEER, TIDE_USER } from '../postgres/config.ts';

export interface ClientSessionsOptions {
  /**
   * Where PostgreSQL listens; asked for every session, so that it may move. Null while no sessions are let
   * in.
   */
  readonly target: () => ServerAddress | null;
  /** Sessions that are open at once; one more is refused. */
  readonly sessionsMax: number;
}

/**
 * Requests to cancel that are on their way to PostgreSQL. They count as nobody's session: a full node has to
 * take them.
 */
const CANCELS_MAX = 64;

/** Other roles may have fewer rights than the owners' of all tables. */
const ROUTED = { database: TIDE_DATABASE, role: TIDE_USER, peer: TIDE_PEER };

/** Who may come in, over all workers: by whom they want to be, and how many there are. */
export class ClientSessions {
  readonly #options: ClientSessionsOptions;
  readonly #open = { startup: 0, cancel: 0 };

  constructor(options: ClientSessionsOptions) {
    this.#options = options;
  }

  /** What is let in counts until `left`. */
  admit({ kind, role, database }: Who): Verdict {
    if (role !== null && OWN_ROLES.has(role)) return { refusal: notForClients(role) };
    const { sessionsMax } = this.#options;
    const to = this.#options.target();
    if (to === null) return { refusal: AWAY };
    if (this.#open[kind] >= (kind === 'cancel' ? CANCELS_MAX : sessionsMax))
      return { refusal: tooManyClients(sessionsMax) };
    this.#open[kind] += 1;
    const isRouted = role === TIDE_USER && database === TIDE_DATABASE;
    return { to, routedAs: isRouted ? ROUTED : null };
  }

  left(kind: SessionKind): void {
    this.#open[kind] -= 1;
  }
}
