import { connect, type Socket } from 'node:net';
import type { DeadlockAnswers } from './deadlock-answers.ts';
import type { ServerAddress, Verdict } from './messages.ts';
import { readStartup, type Startup } from './read-startup.ts';
import { AWAY, refuseSession } from './refuse.ts';

export interface PassThroughOptions {
  /** Asked for every client. `ended` is called when one has gone, whatever the answer was. */
  readonly admit: (startup: Pick<Startup, 'kind' | 'role'>) => { verdict: Promise<Verdict>; ended: () => void };
  /** Sees what PostgreSQL answers. */
  readonly answers?: DeadlockAnswers;
}

const LAST_WORDS_MS = 10_000;

/**
 * Joins clients' sessions to the PostgreSQL of this node, as they are, and refuses those that it must not.
 */
export class PassThrough {
  readonly #options: PassThroughOptions;
  readonly #sessions = new Set<Socket>();
  readonly #cancels = new Set<Socket>();

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

  async #begin(socket: Socket, { kind, role, bytes }: Startup, letIn: () => void): Promise<void> {
    const isCancel = kind === 'cancel';
    const group = isCancel ? this.#cancels : this.#sessions;
    const { verdict, ended } = this.#options.admit({ kind, role });
    group.add(socket);
    socket.once('close', () => {
      group.delete(socket);
      ended();
    });
    const said = await verdict;
    if (socket.destroyed) return;
    if ('to' in said) {
      letIn();
      passThrough(socket, bytes, said.to, isCancel ? undefined : this.#options.answers);
    } else if (isCancel) socket.destroy();
    else refuseSession(socket, said.refusal);
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
 */
function passThrough(client: Socket, begun: Buffer, target: ServerAddress, answers?: DeadlockAnswers): void {
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
    upstream.write(begun);
    client.pipe(upstream);
    if (answers) passOn(upstream, client, answers);
    else upstream.pipe(client);
  });
}

/** What `pipe` does, with a look at the bytes. */
function passOn(upstream: Socket, client: Socket, answers: DeadlockAnswers): void {
  const session = answers.begin();
  upstream.on('data', (piece: Buffer) => {
    if (!client.write(session.take(piece))) upstream.pause();
  });
  client.on('drain', () => upstream.resume());
  upstream.once('end', () => client.end());
  upstream.once('close', () => answers.end(session));
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
}
