import { tideError } from '../core/errors.ts';

const CLIENT_PORT = 2379;
const PREFIX = '/pgtide';

/** Where a cluster keeps its facts in etcd. */
export interface EtcdAddress {
  /** HOST:PORT of etcd's client ports, as given. */
  endpoints: string[];
  /** Begins every key; several clusters may share an etcd. */
  prefix: string;
}

/**
 * Reads `etcd://h1:2379,h2:2379,h3:2379[/prefix]`; the port is 2379 and the prefix /pgtide where left out.
 * Throws META_URL_INVALID.
 */
export function parseEtcdUrl(url: string): EtcdAddress {
  const invalid = (why: string) => tideError('META_URL_INVALID', { url, why });
  const [, scheme, rest] = /^([a-z+]+):\/\/(.*)$/i.exec(url) ?? [];
  if (scheme === undefined || rest === undefined) throw invalid('it does not begin with etcd://');
  if (scheme.toLowerCase() !== 'etcd') throw invalid(`the scheme ${scheme} is not known, only etcd (without TLS)`);
  const slash = rest.indexOf('/');
  const hosts = slash < 0 ? rest : rest.slice(0, slash);
  const path = slash < 0 ? '' : rest.slice(slash).replace(/\/+$/, '');
  if (path !== '' && !/^(\/[\w.-]+)+$/.test(path)) throw invalid(`the prefix ${path} may have letters, digits, . _ -`);
  const endpoints = hosts.split(',').map((host) => endpointOf(host.trim(), invalid));
  return { endpoints: [...new Set(endpoints)], prefix: path === '' ? PREFIX : path };
}

function endpointOf(text: string, invalid: (why: string) => Error): string {
  const [, host, port] = /^(\[[0-9a-f:]+\]|[\w.-]+)(?::(\d+))?$/i.exec(text) ?? [];
  if (host === undefined) throw invalid(text === '' ? 'a host is empty' : `${text} is not HOST:PORT`);
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65_535)) throw invalid(`${port} is not a port`);
  return `${host}:${port ?? CLIENT_PORT}`;
}
