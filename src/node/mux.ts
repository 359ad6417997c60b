import { createServer, type Server, type Socket } from 'node:net';
import { Hellos } from '../gateway/hellos.ts';
import { type Address, BACKLOG, listenError } from './tcp-address.ts';

export interface MuxOptions {
  /** Gets connections that speak HTTP, nothing read from them yet: `server.emit('connection', socket)`. */
  readonly onHttp: (socket: Socket) => void;
  /**
   * Gets connections of PostgreSQL clients, paused, and what was read from them, and calls `takenOver` when
   * it has taken one over. Until then they have to end within `helloMs`, and are among those that may be
   * closed to make room.
   */
  readonly onPostgres: (socket: Socket, begun: Buffer, takenOver: () => void) => void;
  /** How long a client may take to say what it is; milliseconds, default 10 s. */
  readonly helloMs?: number;
}

export interface Mux {
  /** Listens; throws PORT_IN_USE or ADDRESS_UNAVAILABLE, naming `flag`. */
  listen(flag: string, address: Address): Promise<void>;
  /** Takes no more connections, and closes those that were not let in yet. */
  close(): void;
}

/**
 * A client that has been idle for this long is asked whether it is there: one that vanished without a word
 * must not keep what its session holds.
 */
const KEEPALIVE_MS = 5_000;
/**
 * What is put back into a socket then fills it, and nothing more is read: else this process would go on
 * reading from a connection that it has given to another.
 */
const READ_BYTES_MAX = 1;
const SOCKET = {
  allowHalfOpen: true,
  noDelay: true,
  keepAlive: true,
  keepAliveInitialDelay: KEEPALIVE_MS,
  highWaterMark: READ_BYTES_MAX,
};

/** One listening port for two protocols. Whoever speaks neither is closed. */
export function createMux({ onHttp, onPostgres, helloMs }: MuxOptions): Mux {
  const hellos = new Hellos(helloMs);
  const server = createServer(SOCKET, (socket) => {
    const end = () => socket.destroy();
    socket.on('error', end).once('end', end);
    const letIn = hellos.add(socket);
    socket.once('data', (chunk: Buffer) => {
      socket.pause();
      socket.unshift(chunk);
      socket.off('end', end);
      const protocol = protocolOf(chunk);
      if (protocol === null) end();
      else if (protocol === 'postgres') onPostgres(socket, chunk, letIn);
      else {
        letIn();
        socket.off('error', end);
        onHttp(socket);
        // Only now may the chunk we put back flow: the HTTP parser reads what follows straight from the
        // handle.
        socket.resume();
      }
    });
  });
  return {
    listen: (flag, address) => listen(server, flag, address),
    close: () => {
      server.close();
      hellos.close();
    },
  };
}

/**
 * A PostgreSQL client speaks first, with a length below 2^24: a zero byte. An HTTP client begins with a
 * method in capitals. Anything else is null: a TLS hello, while the cluster is insecure.
 */
function protocolOf(bytes: Buffer): 'postgres' | 'http' | null {
  const first = bytes[0] ?? 0;
  if (first === 0) return 'postgres';
  return first >= 0x41 && first <= 0x5a ? 'http' : null;
}

function listen(server: Server, flag: string, address: Address): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error) => reject(listenError(flag, address, error));
    server.once('error', failed);
    const { host, port } = address;
    server.listen({ port, ...(host === '' ? {} : { host }), backlog: BACKLOG }, () => {
      server.off('error', failed);
      // A failed accept (no file descriptors left) concerns that one client: it is closed, and the rest goes
      // on.
      server.on('error', () => {});
      resolve();
    });
  });
}
