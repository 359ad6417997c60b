import type { FastifyInstance } from 'fastify';
import type { Addresses } from './addresses.ts';
import type { Mux } from './mux.ts';
import { listenError, requirePortFree } from './ports.ts';

/**
 * Has both ports of a node listen. HTTP comes first: an HTTP server that does not listen holds nobody to its
 * time, whoever hands it connections. Throws PORT_IN_USE or ADDRESS_UNAVAILABLE, the listen address before
 * the other; nothing listens then.
 */
export async function openDoors(addresses: Addresses, http: FastifyInstance, mux: Mux): Promise<void> {
  const { host, port } = addresses.http;
  try {
    await http.listen({ host: host === '' ? '::' : host, port });
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
