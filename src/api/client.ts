import { request } from 'node:http';
import { type ErrorBody, messageOf, TideError, tideError } from '../core/errors.ts';
import type { AdminRequest } from './commands.ts';
import type { Results } from './results.ts';

export const FORWARDED = 'x-pgtide-forwarded';

export interface CallOptions {
  /** How long the whole call may take; default 30 s. */
  timeoutMs?: number;
  /** Passed on by a node: whoever gets it and is not the manager does not pass it on again. */
  forwarded?: boolean;
}

/**
 * Sends one admin command to the node at `address` (HOST:PORT of its listen or HTTP port).
 * Throws the `TideError` the cluster answered with, UNREACHABLE where nobody answers, NOT_PGTIDE where somebody else does.
 */
export async function admin<R extends AdminRequest>(
  address: string,
  command: R,
  options: CallOptions = {},
): Promise<Results[R['do']]> {
  return (await post(address, '/api/v1/admin', command, options)) as Results[R['do']];
}

/** Posts JSON to a node and gives back the `result` of its answer; errors as for `admin`. */
export async function post(address: string, path: string, body: unknown, options: CallOptions = {}): Promise<unknown> {
  const { status, text } = await send(address, path, JSON.stringify(body), options);
  const answer = parseAnswer(text);
  if (answer === null) throw tideError('NOT_PGTIDE', { address, status });
  if ('error' in answer) throw new TideError(answer.error);
  return answer.result;
}

/** No connection came about: the call has surely not been carried out. */
const NEVER_ARRIVED = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTFOUND']);

function codeOf(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? '';
}

type Answer = { result: unknown } | { error: ErrorBody };

function parseAnswer(text: string): Answer | null {
  try {
    const value: unknown = JSON.parse(text);
    const shaped = typeof value === 'object' && value !== null && ('result' in value || 'error' in value);
    return shaped ? (value as Answer) : null;
  } catch {
    return null;
  }
}

function send(
  address: string,
  path: string,
  body: string,
  { timeoutMs = 30_000, forwarded = false }: CallOptions,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const unreachable = (why: string, refused = false) =>
      reject(tideError('UNREACHABLE', { address, why, ...(refused ? { refused } : {}) }));
    let url: URL;
    try {
      url = new URL(path, `http://${address}`);
    } catch {
      unreachable('not a HOST:PORT address');
      return;
    }
    const call = request(
      url,
      {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          ...(forwarded ? { [FORWARDED]: '1' } : {}),
        },
        agent: false,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
        response.on('error', (error) => unreachable(messageOf(error)));
      },
    );
    // The request's own timeout would begin when it is connected, which takes as long as it likes where packets vanish.
    const timer = setTimeout(() => call.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)), timeoutMs);
    call.on('close', () => clearTimeout(timer));
    call.on('error', (error) => unreachable(messageOf(error), NEVER_ARRIVED.has(codeOf(error))));
    call.end(body);
  });
}
