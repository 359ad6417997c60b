import { request } from 'node:http';
import { messageOf, tideError } from '../core/errors.ts';
import { clientOver, type Transport } from './client.ts';
import { OWN_CALL } from './headers.ts';

/** No connection came about: the call has surely not been carried out. */
const NEVER_ARRIVED = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND']);

/**
 * By Node's own HTTP, a connection for each call. `refused` of its UNREACHABLE: the call has surely not been
 * carried out.
 */
const overHttp: Transport = ({ method, address, path, headers, body, timeoutMs, signal }) =>
  new Promise((resolve, reject) => {
    const unreachable = (why: string, refused = false) =>
      reject(tideError('UNREACHABLE', { address, why, ...(refused ? { refused } : {}) }));
    const url = urlOf(address, path);
    if (url === null) {
      unreachable('not a HOST:PORT address');
      return;
    }
    const length = body === null ? {} : { 'content-length': body.byteLength };
    const call = request(
      url,
      { method, headers: { ...headers, ...length, [OWN_CALL]: '1' }, agent: false, ...(signal ? { signal } : {}) },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
        response.on('error', (error) => unreachable(messageOf(error)));
      },
    );
    // The request's own timeout would begin when it is connected, which takes as long as it likes where
    // packets vanish.
    const timer = setTimeout(() => call.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    call.on('close', () => clearTimeout(timer));
    call.on('error', (error) => unreachable(messageOf(error), NEVER_ARRIVED.has(codeOf(error))));
    call.end(body ?? undefined);
  });

/** The calls of a node, and of programs on Node. */
export const { admin, whoIs, quit, topology, ask } = clientOver(overHttp);

function urlOf(address: string, path: string): URL | null {
  try {
    return new URL(path, `http://${address}`);
  } catch {
    return null;
  }
}

function codeOf(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}
