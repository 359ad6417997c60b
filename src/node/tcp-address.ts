import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { messageOf, type TideError, tideError } from '../core/errors.ts';

export interface Address {
  /** Without brackets; empty: all interfaces. */
  readonly host: string;
  readonly port: number;
}

const PORT_MAX = 65_535;
/**
 * Clients that come at once, and wait to be accepted. Where there is no more room Linux answers with SYN
 * cookies: a client that says nothing then has a connection that nobody here knows of, or ever ends. It takes
 * no more than `net.core.somaxconn`, which is 4096.
 */
export const BACKLOG = 4_096;

/**
 * Reads the HOST:PORT that `flag` was given: `10.0.0.5:26257`, `:26257` (all interfaces), `[::1]:26257`, or a
 * host alone where there is a `defaultPort`. Throws BAD_ADDRESS.
 */
export function parseAddress(flag: string, value: string, defaultPort?: number): Address {
  const bad = (why: string) => tideError('BAD_ADDRESS', { flag, value, why });
  const parts = /^(?:\[(?<v6>[^\]]*)\]|(?<name>[^:[\]]*))(?::(?<port>[^:]*))?$/.exec(value.trim());
  if (parts === null) {
    throw bad(
      /^[0-9a-f:.]+$/i.test(value) ? 'an IPv6 address has to be in brackets' : 'it is not of the form HOST:PORT',
    );
  }
  const { v6, name, port } = parts.groups ?? {};
  const host = v6 ?? name ?? '';
  if (v6 !== undefined && !/^[0-9a-f:.]*:[0-9a-f:.]*(%\w+)?$/i.test(v6)) throw bad(`'${v6}' is not an IPv6 address`);
  if (v6 === undefined && /[^\w.-]/.test(host)) throw bad(`'${host}' is not the name of a host`);
  if (port === undefined) {
    if (defaultPort === undefined || host === '') throw bad('the port is missing');
    return { host, port: defaultPort };
  }
  if (!/^\d+$/.test(port) || Number(port) < 1 || Number(port) > PORT_MAX) {
    throw bad(`the port '${port}' is not a number from 1 to ${PORT_MAX}`);
  }
  return { host, port: Number(port) };
}

/** `10.0.0.5:26257`, `[::1]:26257` */
export function formatAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * The address other nodes are told where none is named: the listen address, or this machine's name where that
 * means all interfaces.
 */
export function advertisedAddress(listen: Address): Address {
  const isAll = listen.host === '' || listen.host === '0.0.0.0' || listen.host === '::';
  return isAll ? { host: hostname(), port: listen.port } : listen;
}

/**
 * Where PostgreSQL itself listens unless `--postgres-port` says otherwise: a thousand above the listen port,
 * or below near the end.
 */
export function defaultPostgresPort(listenPort: number): number {
  return listenPort + 1_000 <= PORT_MAX ? listenPort + 1_000 : listenPort - 1_000;
}

/**
 * Throws PORT_IN_USE or ADDRESS_UNAVAILABLE, naming `flag`, where a server could not listen on `address` now.
 */
export async function requirePortFree(flag: string, address: Address): Promise<void> {
  const error = await tryListen(address);
  if (error !== null) throw listenError(flag, address, error);
}

/** What a failed `listen` on `address` means to who gave `flag`. */
export function listenError(flag: string, address: Address, error: unknown): TideError {
  const shown = formatAddress(address);
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EADDRINUSE') return tideError('PORT_IN_USE', { flag, address: shown }, error);
  const why = code === 'EADDRNOTAVAIL' ? 'this machine does not have that address' : messageOf(error);
  return tideError('ADDRESS_UNAVAILABLE', { flag, address: shown, why }, error);
}

function tryListen({ host, port }: Address): Promise<unknown> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', resolve);
    const where = host === '' ? { port } : { host, port };
    server.listen({ ...where, exclusive: true }, () => server.close(() => resolve(null)));
  });
}
