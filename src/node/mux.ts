import { connect, createServer, type Server, type Socket } from 'node:net';
import { OWN_ROLES } from '../postgres/config.ts';
import type { DeadlockAnswers } from './deadlock-answers.ts';
import { type Address, listenError } from './ports.ts';
import { AWAY, notForClients, readStartup, refuseSession, type Startup, tooManyClients } from './refuse.ts';

export interface MuxOptions {
  /** Gets connections that speak HTTP, nothing read from them yet: `server.emit('connection', socket)`. */
  readonly onHttp: (socket: Socket) => void;
  /** Where PostgreSQL listens; asked for every session, so that it may move. Null while the node lets no sessions in. */
  readonly postgresTarget: () => { path: string } | { host: string; port: number } | null;
  /** PostgreSQL sessions that are open at once; one more is refused. */
  readonly sessionsMax: number;
  /** How long a client may take to say what it is and, a PostgreSQL client, who; milliseconds, default 10 s. */
  readonly startupMs?: number;
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

const STARTUP_MS = 10_000;
/** Clients that have not said who they are. One more closes the one that has been so for longest. */
const WAITING_MAX = 1_000;
/** Requests to cancel that are on their way to PostgreSQL. They count as nobody's session: a full node has to take them. */
const CANCELS_MAX = 64;
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
  const cancels = new Set<Socket>();
  const begin = (socket: Socket, startup: Startup): void => {
    if (startup.role !== null && OWN_ROLES.has(startup.role)) {
      refuseSession(socket, notForClients(startup.role));
      return;
    }
    const target = options.postgresTarget();
    const group = startup.isCancel ? cancels : sessions;
    const isFull = group.size >= (startup.isCancel ? CANCELS_MAX : options.sessionsMax);
    if (target === null || isFull) {
      if (startup.isCancel) socket.destroy();
      else refuseSession(socket, target === null ? AWAY : tooManyClients(options.sessionsMax));
      return;
    }
    waiting.delete(socket);
    group.add(socket);
    socket.once('close', () => group.delete(socket));
    passThrough(socket, startup.bytes, target, startup.isCancel ? undefined : options.answers);
  };
  const server = createServer({ ...SOCKET, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS }, (socket) => {
    waiting.add(socket);
    socket.once('close', () => waiting.delete(socket));
    const [longest] = waiting;
    if (waiting.size > WAITING_MAX) longest?.destroy();
    sortByFirstByte(socket, options.startupMs ?? STARTUP_MS, {
      http: () => {
        waiting.delete(socket);
        options.onHttp(socket);
        // Only now may the chunk we put back flow: the HTTP parser reads what follows straight from the handle.
        socket.resume();
      },
      postgres: (startup) => begin(socket, startup),
    });
  });

  const drain = async (): Promise<void> => {
    server.close();
    for (const socket of [...waiting, ...cancels]) socket.destroy();
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

function sortByFirstByte(
  socket: Socket,
  withinMs: number,
  to: { http: () => void; postgres: (startup: Startup) => void },
): void {
  const end = () => socket.destroy();
  // Not the socket's own timeout, which every byte begins anew.
  const timer = setTimeout(end, withinMs);
  socket
    .on('error', end)
    .once('end', end)
    .once('close', () => clearTimeout(timer));
  const known = () => {
    clearTimeout(timer);
    socket.off('end', end);
  };
  socket.once('data', (chunk) => {
    socket.pause();
    socket.unshift(chunk);
    const first = (chunk as Buffer)[0] ?? 0;
    if (first === 0) {
      readStartup(socket, (startup) => {
        known();
        if (startup === null) end();
        else to.postgres(startup);
      });
    } else if (first >= 0x41 && first <= 0x5a) {
      known();
      socket.off('error', end);
      to.http();
    } else end();
  });
}

/** Joins a client to PostgreSQL: each side's end is passed on as an end, each side's failure ends the other. */
function passThrough(
  client: Socket,
  begun: Buffer,
  target: { path: string } | { host: string; port: number },
  answers?: DeadlockAnswers,
): void {
  const upstream = connect({ ...target, ...SOCKET });
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
    // PostgreSQL never half-closes: after its end the client has nobody to talk to, and no reason to keep the session.
    upstream.once('end', () => client.setTimeout(LAST_WORDS_MS, () => client.destroy()));
    upstream.write(begun);
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
