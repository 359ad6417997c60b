import { connect, type Socket } from 'node:net';
import type { NodeWork } from './admin/node-work.ts';
import type { DeadlockAnswers } from './deadlock-answers.ts';
import type { ServerAddress, Verdict, Who } from './messages.ts';
import { readStartup, type Startup } from './read-startup.ts';
import { AWAY, refuseSession } from './refuse.ts';
import type { Routing } from './routing.ts';
import { Session } from './session/session.ts';

export interface PassThroughOptions {
  /** Asked for every client. `ended` is called when one has gone, whatever the answer was. */
  readonly admit: (who: Who) => { verdict: Promise<Verdict>; ended: () => void };
  /** Sees what PostgreSQL answers. */
  readonly answers: DeadlockAnswers;
  /** A request to cancel whose session is none that executes something elsewhere here. */
  readonly onCancel?: (key: Buffer) => void;
  /** What sessions' statements are routed with; without it all of them are passed through. */
  readonly routing?: Routing;
  /** For statements about the cluster, of sessions that are routed. */
  readonly work?: NodeWork;
}

const LAST_WORDS_MS = 10_000;
/** Length and code; process and secret follow. */
const CANCEL_HEAD_BYTES = 8;

/**
 * Joins clients' sessions to the PostgreSQL of this node, as they are, and refuses those that it must not.
 */
export class PassThrough {
  readonly #options: PassThroughOptions;
  readonly #sessions = new Set<Socket>();
  readonly #cancels = new Set<Socket>();
  readonly #routed = new Set<Session>();

  constructor(options: PassThroughOptions) {
    this.#options = options;
  }

  /** Takes a client that may have said something; calls `letIn` once it may talk to PostgreSQL. */
  receive(socket: Socket, letIn: () => void): void {
    readStartup(socket, (startup) => {
      if (startup === null) socket.destroy();
      else this.#begin(socket, startup, letIn).catch(() => socket.destroy());
    });
  }

  async #begin(socket: Socket, startup: Startup, letIn: () => void): Promise<void> {
    const isCancel = startup.who.kind === 'cancel';
    const group = isCancel ? this.#cancels : this.#sessions;
    const { verdict, ended } = this.#options.admit(startup.who);
    group.add(socket);
    socket.once('close', () => {
      group.delete(socket);
      ended();
    });
    const said = await verdict;
    if (socket.destroyed) return;
    if ('to' in said) {
      letIn();
      if (isCancel && this.#cancelElsewhere(startup.message)) socket.destroy();
      else if (isCancel) join(socket, startup, said.to, pipe);
      else this.#serve(socket, startup, said);
    } else if (isCancel) socket.destroy();
    else refuseSession(socket, said.refusal);
  }

  #serve(socket: Socket, startup: Startup, { to, routedAs }: Extract<Verdict, { to: unknown }>): void {
    const { answers, routing, work } = this.#options;
    join(socket, startup, to, (client, home) => {
      const watched = answers.begin();
      home.once('close', () => answers.end(watched));
      if (routing === undefined || work === undefined || routedAs === null)
        return pass(client, home, (piece) => watched.take(piece));
      routing.begin(to, routedAs);
      const session = new Session(client, home, watched, routing, work);
      this.#routed.add(session);
      client.once('close', () => {
        this.#routed.delete(session);
        session.left();
      });
      client.on('data', (piece: Buffer) => session.fromClient(piece));
      client.once('end', () => session.clientEnded());
      fromHome(client, home, (piece) => session.fromHome(piece));
      return { ended: () => session.homeEnded() };
    });
  }

  /** A request to cancel, for a session of this worker: true where it executes something elsewhere. */
  cancel(key: Buffer): boolean {
    return [...this.#routed].some((session) => session.isOf(key) && session.cancel());
  }

  #cancelElsewhere(request: Buffer): boolean {
    const key = request.subarray(CANCEL_HEAD_BYTES);
    if (this.cancel(key)) return true;
    this.#options.onCancel?.(key);
    return false;
  }

  /** Returns when the last session has ended. Whoever calls sees to it that none comes after that. */
  async drain(): Promise<void> {
    for (const socket of this.#cancels) socket.destroy();
    await Promise.all([...this.#sessions].map((socket) => closed(socket)));
  }

  /** Drains for at most `graceMs`, then cuts what is still open. */
  async close(graceMs: number): Promise<void> {
    const timer = setTimeout(() => {
      for (const socket of this.#sessions) socket.destroy();
    }, graceMs);
    await this.drain();
    clearTimeout(timer);
  }
}

/** What is to be done when PostgreSQL has ended the session. */
interface Ending {
  ended(): void;
}

/**
 * Connects a client to PostgreSQL, which gets the startup message; `serve` passes on what they say then. Each
 * side's failure ends the other.
 */
function join(
  client: Socket,
  startup: Startup,
  target: ServerAddress,
  serve: (client: Socket, home: Socket) => Ending,
): void {
  const home = connect({ ...target, allowHalfOpen: true, noDelay: true });
  const refuse = () => {
    home.destroy();
    refuseSession(client, AWAY);
  };
  client.on('error', () => home.destroy());
  client.once('close', () => home.destroy());
  home.once('error', refuse);
  home.once('connect', () => {
    home.off('error', refuse);
    home.write(startup.message);
    if (startup.rest.length > 0) client.unshift(startup.rest);
    const { ended } = serve(client, home);
    home.on('error', ended);
    // PostgreSQL never half-closes: after its end the client has nobody to talk to, and no reason to keep the
    // session.
    const over = () => {
      ended();
      client.setTimeout(LAST_WORDS_MS, () => client.destroy());
    };
    home.once('end', over).once('close', over);
    client.resume();
  });
}

/** Byte for byte, but for what `exchange` makes of what PostgreSQL sends. */
function pass(client: Socket, home: Socket, exchange: (piece: Buffer) => Buffer): Ending {
  client.pipe(home);
  fromHome(client, home, exchange);
  return { ended: () => client.destroySoon() };
}

const pipe = (client: Socket, home: Socket) => pass(client, home, (piece) => piece);

function fromHome(client: Socket, home: Socket, exchange: (piece: Buffer) => Buffer): void {
  home.on('data', (piece: Buffer) => {
    const bytes = exchange(piece);
    if (bytes.length > 0 && !client.write(bytes)) home.pause();
  });
  client.on('drain', () => home.resume());
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
}
