import { connect, createServer, type Server, type Socket } from 'node:net';
import type { DeadlockAnswers } from './deadlock-answers.ts';
import { type Address, listenError } from './ports.ts';
import { refuseSession } from './refuse.ts';

export interface MuxOptions {
  /** Gets connections that speak HTTP, nothing read from them yet: `server.emit('connection', socket)`. */
  readonly onHttp: (socket: Socket) => void;
  /** Where PostgreSQL listens; asked for every session, so that it may move. Null while the node lets no sessions in. */
  readonly postgresTarget: () => { path: string } | { host: string; port: number } | null;
  /** How long a client may stay silent after connecting, milliseconds; default 60 s. */
  readonly firstByteMs?: number;
  /** Sees what PostgreSQL answers. */
  readonly answers?: DeadlockAnswers;
}

export interface Mux {
  /** Listens; throws PORT_IN_USE or ADDRESS_UNAVAILABLE, naming `flag`. */
  listen(flag: string, address: Address): Promise<void>;
  /** PostgreSQL sessions that are open now. */
  readonly openSessions: number;
  /** Takes no more connections, and returns when the last PostgreSQL session has ended. */
  drain(): Promise<void>;
  /** Drains for at most `graceMs`, then cuts what is still open. */
  close(graceMs: number): Promise<void>;
}

const FIRST_BYTE_MS = 60_000;
const LAST_WORDS_MS = 10_000;
/** A client that has been idle for this long is asked whether it is there: one that vanished without a word must not keep what its session holds. */
const KEEPALIVE_MS = 5_000;
const SOCKET = { allowHalfOpen: true, noDelay: true };

/**
 * One listening port for two protocols. A PostgreSQL client speaks first, with a length below 2^24: a zero byte. An HTTP client
 * begins with a method in capitals. Anything else (a TLS hello, while the cluster is insecure) is closed.
 */
export function createMux(options: MuxOptions): Mux {
  const sessions = new Set<Socket>();
  const waiting = new Set<Socket>();
  const server = createServer({ ...SOCKET, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS }, (socket) => {
    waiting.add(socket);
    socket.once('close', () => waiting.delete(socket));
    sortByFirstByte(socket, options.firstByteMs ?? FIRST_BYTE_MS, {
      http: () => {
        waiting.delete(socket);
        options.onHttp(socket);
        // Only now may the chunk we put back flow: the HTTP parser reads what follows straight from the handle.
        socket.resume();
      },
      postgres: () => {
        waiting.delete(socket);
        sessions.add(socket);
        socket.once('close', () => sessions.delete(socket));
        passThrough(socket, options);
      },
    });
  });

  const drain = async (): Promise<void> => {
    server.close();
    for (const socket of waiting) socket.destroy();
    await Promise.all([...sessions].map((socket) => closed(socket)));
  };
  return {
    listen: (flag, address) => listen(server, flag, address),
    get openSessions() {
      return sessions.size;
    },
    drain,
    close: async (graceMs) => {
      const timer = setTimeout(() => {
        for (const socket of sessions) socket.destroy();
      }, graceMs);
      await drain();
      clearTimeout(timer);
    },
  };
}

function listen(server: Server, flag: string, address: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => reject(listenError(flag, address, error));
    server.once('error', failed);
    const { host, port } = address;
    server.listen(host === '' ? { port } : { host, port }, () => {
      server.off('error', failed);
      // A failed accept (no file descriptors left) concerns that one client: it is closed, and the rest goes on.
      server.on('error', () => {});
      resolve();
    });
  });
}

function sortByFirstByte(socket: Socket, firstByteMs: number, to: { http: () => void; postgres: () => void }): void {
  const end = () => socket.destroy();
  socket.setTimeout(firstByteMs, end);
  socket.on('error', end);
  socket.once('end', end);
  socket.once('data', (chunk) => {
    socket.pause();
    socket.setTimeout(0);
    socket.off('timeout', end).off('error', end).off('end', end);
    socket.unshift(chunk);
    const first = (chunk as Buffer)[0] ?? 0;
    if (first === 0) to.postgres();
    else if (first >= 0x41 && first <= 0x5a) to.http();
    else socket.destroy();
  });
}

/** Joins a client to PostgreSQL: each side's end is passed on as an end, each side's failure ends the other. */
function passThrough(client: Socket, { postgresTarget, answers }: MuxOptions): void {
  const target = postgresTarget();
  if (target === null) {
    refuseSession(client);
    return;
  }
  const upstream = connect({ ...target, ...SOCKET });
  const refuse = () => {
    upstream.destroy();
    refuseSession(client);
  };
  client.on('error', () => upstream.destroy());
  client.once('close', () => upstream.destroy());
  upstream.once('error', refuse);
  upstream.once('connect', () => {
    upstream.off('error', refuse);
    upstream.on('error', () => client.destroy());
    upstream.once('close', () => client.destroySoon());
    // PostgreSQL never half-closes: after its end the client has nobody to talk to, and no reason to keep the session.
    upstream.once('end', () => client.setTimeout(LAST_WORDS_MS, () => client.destroy()));
    client.pipe(upstream);
    if (answers) passOn(upstream, client, answers);
    else upstream.pipe(client);
  });
}

/** What `pipe` does, with a look at the bytes. */
function passOn(upstream: Socket, client: Socket, answers: DeadlockAnswers): void {
  const frames = answers.begin();
  upstream.on('data', (piece: Buffer) => {
    if (!client.write(frames.take(piece))) upstream.pause();
  });
  client.on('drain', () => upstream.resume());
  upstream.once('end', () => client.end());
  upstream.once('close', () => answers.end(frames));
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });
}
