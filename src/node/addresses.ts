import { hostname } from 'node:os';
import type { StartOptions } from '../api/start-options.ts';
import { type Address, advertisedAddress, defaultPostgresPort, parseAddress } from './tcp-address.ts';

/** Where a node listens and what it tells others. */
export interface Addresses {
  listen: Address;
  http: Address;
  advertise: Address;
  postgresPort: number;
  /** In small letters: the names under which HTTP may reach this node, beside addresses. */
  names: ReadonlySet<string>;
}

/** From the flags and their defaults. Throws BAD_ADDRESS. */
export function readAddresses(options: StartOptions): Addresses {
  const listen = parseAddress('--listen-addr', options.listenAddr, 26_257);
  const http = parseAddress('--http-addr', options.httpAddr, 8_080);
  const advertise =
    options.advertiseAddr === undefined
      ? advertisedAddress(listen)
      : parseAddress('--advertise-addr', options.advertiseAddr, listen.port);
  const names = ['localhost', hostname(), listen.host, http.host, advertise.host, ...(options.hostNames ?? [])];
  return {
    listen,
    http,
    advertise,
    postgresPort: options.postgresPort ?? defaultPostgresPort(listen.port),
    names: new Set(names.filter((name) => name !== '').map((name) => name.toLowerCase())),
  };
}
