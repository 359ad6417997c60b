import { request } from 'node:http';
import { type ErrorBody, messageOf, TideError, tideError } from '../core/errors.ts';
import type { AdminRequest } from './commands.ts';
import type { WhoAmI } from './membership.ts';
import type { Results } from './results.ts';

export const FORWARDED = 'x-pgtide-forwarded';
/** The cluster that a calling node belongs to. People's programs do not say, nor do nodes of version 0.1. */
export const CALLER_CLUSTER = 'x-pgtide-cluster';

/** Says that no browser sends this: none lets a page set a header of such a name. */
export const OWN_CALL = 'sec-pgtide';
/** Longest body of a request that a node reads, but for those that say otherwise. */
export const BODY_BYTES_MAX = 1 << 20;

export interface CallOptions {
  /** How long the whole call may take; default 30 s. */
  timeoutMs?: number;
  /** Passed on by a node: whoever gets it and is not the manager does not pass it on again. */
  forwarded?: boolean;
  /** Of the calling node; a node of another cluster refuses with CLUSTER_MISMATCH. */
  cluster?: string | undefined;
  /** How long the body may be, bytes; default `BODY_BYTES_MAX`. */
  bytesMax?: number;
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

/** Which node answers at `address` (HOST:PORT). Errors as for `admin`. */
export async function whoIs(address: string, options: CallOptions = {}): Promise<WhoAmI> {
  return (await post(address, '/api/v1/whoami', {}, options)) as WhoAmI;
}

/** Posts JSON to a node and gives back the `result` of its answer; errors as for `admin`, and BODY_TOO_LARGE. */
export async function post(address: string, path: string, body: unknown, options: CallOptions = {}): Promise<unknown> {
  const json = JSON.stringify(body);
  const { bytesMax = BODY_BYTES_MAX } = options;
  if (Buffer.byteLength(json) > bytesMax) throw tideError('BODY_TOO_LARGE', { bytesMax });
  const { status, text } = await send(address, path, json, options);
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
    return isAnswer(value) ? value : null;
  } catch {
    return null;
  }
}

function isAnswer(value: unknown): value is Answer {
  if (typeof value !== 'object' || value === null) return false;
  const { error } = value as { error?: { code?: unknown } };
  // Also other servers answer in JSON with an `error`, which is then a text.
  return error === undefined ? 'result' in value : typeof error?.code === 'string';
}

function send(
  address: string,
  path: string,
  body: string,
  { timeoutMs = 30_000, forwarded = false, cluster }: CallOptions,
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
          [OWN_CALL]: '1',
          ...(forwarded ? { [FORWARDED]: '1' } : {}),
          ...(cluster === undefined ? {} : { [CALLER_CLUSTER]: cluster }),
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
