import { connect, type Socket } from 'node:net';
import type { DeadlockAnswers } from './deadlock-answers.ts';
import type { ServerAddress, Verdict, Who } from './messages.ts';
import { readStartup, type Startup } from './read-startup.ts';
import { AWAY, refuseSession } from './refuse.ts';
import { Session, type SessionPorts } from './session/session.ts';

export interface PassThroughOptions {
  /** Asked for every client. `ended` is called when one has gone, whatever the answer was. */
  readonly admit: (who: Who) => { verdict: Promise<Verdict>; ended: () => void };
  /** Sees what PostgreSQL answers. */
  readonly answers: DeadlockAnswers;
  /** A request to cancel whose session is none that executes something elsewhere here. */
  readonly onCancel?: (key: Buffer) => void;
  /** What a session's statements are routed with; null: all of them are passed through. */
  readonly routing?: (
    parameters: ReadonlyMap<string, string>,
    home: ServerAddress,
    peer: string,
  ) => SessionPorts | null;
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
      else if (isCancel) joined(socket, startup, said.to, (upstream) => pipe(socket, upstream));
      else this.#serve(socket, startup, said);
    } else if (isCancel) socket.destroy();
    else refuseSession(socket, said.refusal);
  }

  #serve(socket: Socket, startup: Startup, { to, peer }: Extract<Verdict, { to: unknown }>): void {
    const { answers, routing } = this.#options;
    const ports = (peer !== null && routing?.(startup.parameters, to, peer)) || null;
    joined(socket, startup, to, (upstream) => {
      const watched = answers.begin();
      upstream.once('close', () => answers.end(watched));
      const session = ports && new Session(socket, upstream, watched, ports);
      if (session === null) socket.pipe(upstream);
      else {
        this.#routed.add(session);
        socket.once('close', () => this.#routed.delete(session));
        socket.on('data', (piece: Buffer) => session.fromClient(piece));
        socket.once('end', () => upstream.end());
      }
      upstream.on('data', (piece: Buffer) => {
        if (!socket.write(session === null ? watched.take(piece) : session.fromHome(piece))) upstream.pause();
      });
      socket.on('drain', () => upstream.resume());
      upstream.once('end', () => socket.end());
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

/**
 * Joins a client to PostgreSQL: each side's end is passed on as an end, each side's failure ends the other.
 * `join` passes on what they say, once PostgreSQL has the startup message.
 */
function joined(client: Socket, startup: Startup, target: ServerAddress, join: (upstream: Socket) => void): void {
  const upstream = connect({ ...target, allowHalfOpen: true, noDelay: true });
  const refuse = () => {
    upstream.destroy();
    refuseSession(client, AWAY);
  };
  client.on('error', () => upstream.destroy());
  client.once('close', () => upstream.destroy());
  upstream.once('error', refuse);
  upstream.once('connect', () => {
    upstream.off('error', refuse);
    upstream.on('error', () => client.destroy());
    upstream.once('close', () => client.destroySoon());
    // PostgreSQL never half-closes: after its end the client has nobody to talk to, and no reason to keep the
    // session.
    upstream.once('end', () => client.setTimeout(LAST_WORDS_MS, () => client.destroy()));
    upstream.write(startup.message);
    if (startup.rest.length > 0) client.unshift(startup.rest);
    join(upstream);
    client.resume();
  });
}

function pipe(client: Socket, upstream: Socket): void {
  client.pipe(upstream);
  upstream.pipe(client);
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
}
