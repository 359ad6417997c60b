import { type ErrorBody, TideError, tideError } from '../core/errors.ts';
import type { AdminRequest } from './commands.ts';
import { CALLER_CLUSTER, FORWARDED } from './headers.ts';
import type { WhoAmI } from './membership.ts';
import type { Results } from './results.ts';

/**
 * Calls to a node, however they are carried there: nothing here, or in what it needs, is Node's or a
 * browser's own.
 */

/** Longest body of a request that a node reads, but for those that say otherwise. */
export const BODY_BYTES_MAX = 1 << 20;

const TIMEOUT_MS = 30_000;

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

/** A POST, to be answered within `timeoutMs` as a whole. */
export interface Call {
  /** HOST:PORT */
  readonly address: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly timeoutMs: number;
}

/** Carries a call to a node. Throws UNREACHABLE where no answer comes back. */
export type Transport = (call: Call) => Promise<{ status: number; text: string }>;

/**
 * Every call throws the `TideError` the cluster answered with, what the transport throws where nobody
 * answers, NOT_PGTIDE where somebody else does, and BODY_TOO_LARGE. `address`: HOST:PORT of a listen or HTTP
 * port.
 */
export interface Client {
  /** Sends one admin command to a node. */
  admin<R extends AdminRequest>(address: string, command: R, options?: CallOptions): Promise<Results[R['do']]>;
  /** Which node answers there. */
  whoIs(address: string, options?: CallOptions): Promise<WhoAmI>;
  /** Asks a node to drain and to end. */
  quit(address: string, options?: CallOptions): Promise<void>;
  /** Posts JSON and gives back the `result` of the answer. */
  post(address: string, path: string, body: unknown, options?: CallOptions): Promise<unknown>;
}

export function clientOver(transport: Transport): Client {
  const post: Client['post'] = async (address, path, content, options = {}) => {
    const { bytesMax = BODY_BYTES_MAX, timeoutMs = TIMEOUT_MS } = options;
    const body = new TextEncoder().encode(JSON.stringify(content));
    if (body.byteLength > bytesMax) throw tideError('BODY_TOO_LARGE', { bytesMax });
    const { status, text } = await transport({ address, path, headers: headersOf(options), body, timeoutMs });
    const answer = parseAnswer(text);
    if (answer === null) throw tideError('NOT_PGTIDE', { address, status });
    if ('error' in answer) throw new TideError(answer.error);
    return answer.result;
  };
  return {
    post,
    admin: async <R extends AdminRequest>(address: string, command: R, options?: CallOptions) =>
      (await post(address, '/api/v1/admin', command, options)) as Results[R['do']],
    whoIs: async (address, options) => (await post(address, '/api/v1/whoami', {}, options)) as WhoAmI,
    quit: async (address, options) => {
      await post(address, '/api/v1/quit', {}, options);
    },
  };
}

function headersOf({ forwarded = false, cluster }: CallOptions): Record<string, string> {
  return {
    'content-type': 'application/json',
    ...(forwarded ? { [FORWARDED]: '1' } : {}),
    ...(cluster === undefined ? {} : { [CALLER_CLUSTER]: cluster }),
  };
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
