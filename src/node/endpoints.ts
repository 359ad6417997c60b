import type { FastifyInstance } from 'fastify';
import type { PostgresServer } from '../postgres/server.ts';
import type { Addresses } from './addresses.ts';
import type { Farewell } from './farewell.ts';
import type { GatewayWorkers } from './gateway-workers.ts';
import { createHttp, type HttpPorts } from './http.ts';
import { createMux, type Mux } from './mux.ts';
import { awaitIdle } from './sessions.ts';
import { BACKLOG, listenError, requirePortFree } from './tcp-address.ts';

export interface EndpointsOptions {
  addresses: Addresses;
  http: Omit<HttpPorts, 'names' | 'onConnect'>;
  workers: GatewayWorkers;
  farewell: Farewell;
}

/** What this node is reached by: PostgreSQL sessions and HTTP on the listen port, HTTP on its own. */
export interface Endpoints {
  /**
   * No new sessions, and time for those that are at work to finish; PostgreSQL then tells the idle ones that
   * it ends (57P01).
   */
  drain(server: PostgresServer | null): Promise<void>;
  close(): Promise<void>;
}

const DRAIN_MS = 10_000;

/** Throws PORT_IN_USE or ADDRESS_UNAVAILABLE, the listen address before the other; nothing listens then. */
export async function openEndpoints({
  addresses,
  farewell,
  workers,
  ...options
}: EndpointsOptions): Promise<Endpoints> {
  const http = createHttp({
    ...options.http,
    names: addresses.names,
    onConnect: (request, socket) => farewell.receive(request, socket),
  });
  const mux = createMux({
    onHttp: (socket) => http.server.emit('connection', socket),
    onPostgres: (socket, begun, takenOver) => workers.receive(socket, begun, takenOver),
  });
  await listen(addresses, http, mux);
  workers.start();
  return {
    drain: async (server) => {
      farewell.say({ says: 'ends its sessions and its PostgreSQL, which goes on' });
      mux.close();
      if (server) await awaitIdle(server, DRAIN_MS);
    },
    close: async () => {
      mux.close();
      await workers.close(DRAIN_MS);
      await farewell.beside(http.close());
    },
  };
}

/**
 * HTTP comes first: an HTTP server that does not listen holds nobody to its time, whoever hands it
 * connections.
 */
async function listen(addresses: Addresses, http: FastifyInstance, mux: Mux): Promise<void> {
  const { host, port } = addresses.http;
  try {
    await http.listen({ host: host === '' ? '::' : host, port, backlog: BACKLOG });
  } catch (error) {
    await requirePortFree('--listen-addr', addresses.listen);
    throw listenError('--http-addr', addresses.http, error);
  }
  try {
    await mux.listen('--listen-addr', addresses.listen);
  } catch (error) {
    await http.close();
    throw error;
  }
}
