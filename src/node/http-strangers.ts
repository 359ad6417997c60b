import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';
import { OWN_CALL } from '../api/headers.ts';
import { type TideError, tideError } from '../core/errors.ts';

/**
 * What a browser says of a request that no other site has caused; most requests come from none and say
 * nothing.
 */
const OWN_SITES: readonly unknown[] = [undefined, 'same-origin', 'none'];

/**
 * Why a request must not be answered: it may come from a web page of a stranger, which the browser of
 * somebody who can reach this node has loaded. Such a page can send requests to any address (then they carry
 * its Origin, and no JSON unless it was allowed to), and it can have its own name lead to this node's address
 * (DNS rebinding: then Host is that name). A Host that is an address cannot have been rebound. `names`: in
 * small letters, under which this node is reached. Null: nothing speaks against it. FOREIGN_HOST,
 * FOREIGN_ORIGIN, NOT_JSON.
 */
export function refusalOf(method: string, headers: IncomingHttpHeaders, names: ReadonlySet<string>): TideError | null {
  const { host, origin } = headers;
  const isOwn = headers[OWN_CALL] !== undefined;
  // Nothing but HTTP 1.0 comes without: checks of load balancers, never a browser.
  if (host !== undefined && !isOwn && !isKnown(host, names)) return tideError('FOREIGN_HOST', { host: shown(host) });
  if (origin !== undefined && !isSameOrigin(origin, host))
    return tideError('FOREIGN_ORIGIN', { origin: shown(origin) });
  const site = headers['sec-fetch-site'];
  if (!OWN_SITES.includes(site)) return tideError('FOREIGN_ORIGIN', { origin: shown(`a ${site} page`) });
  const isRead = method === 'GET' || method === 'HEAD';
  return isRead || isJson(headers['content-type']) ? null : tideError('NOT_JSON', { type: shown(typeOf(headers)) });
}

function isKnown(host: string, names: ReadonlySet<string>): boolean {
  const name = hostName(host);
  return name !== null && (isIP(name) !== 0 || names.has(name));
}

/**
 * The host of `HOST[:PORT]`, in small letters, without brackets and the dot that a full name may end with;
 * null: it is none.
 */
function hostName(host: string): string | null {
  const parts = /^(?:\[(?<v6>[0-9a-f:.]+)\]|(?<name>[^\s:/@[\]]+))(?::\d*)?$/i.exec(host);
  return (parts?.groups?.v6 ?? parts?.groups?.name)?.toLowerCase().replace(/\.$/, '') ?? null;
}

/** Whatever stands in front of this node may speak TLS: the scheme is not compared. */
function isSameOrigin(origin: string, host: string | undefined): boolean {
  return host !== undefined && origin.toLowerCase().replace(/^https?:\/\//, '') === host.toLowerCase();
}

function isJson(type: string | undefined): boolean {
  return type !== undefined && /^application\/json\s*(;|$)/i.test(type.trim());
}

function typeOf(headers: IncomingHttpHeaders): string {
  return headers['content-type'] ?? 'no content type';
}

/** What a stranger has sent, for an error text and for a log. */
function shown(value: string): string {
  return value.slice(0, 100);
}
