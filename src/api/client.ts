import { type ErrorBody, TideError, tideError } from '../core/errors.ts';
import type { CallName, Calls } from './calls.ts';
import type { AdminRequest } from './commands.ts';
import { CALLER_CLUSTER, FORWARDED } from './headers.ts';
import type { WhoAmI } from './membership.ts';
import type { Results } from './results.ts';
import { TOPOLOGY_WAIT_MS, type TopologyAnswer } from './topology.ts';

/**
 * Calls to a node, however they are carried there: nothing here, or in what it needs, is Node's or a
 * browser's own.
 */

/** Longest body of a request that a node reads, but for those that say otherwise. */
export const BODY_BYTES_MAX = 1 << 20;

const TIMEOUT_MS = 30_000;
/** How late the answer to a poll may be. */
const LATE_MS = 5_000;

export interface CallOptions {
  /** How long the whole call may take; default 30 s, of a poll 5 s more than a node keeps callers waiting. */
  timeoutMs?: number;
  /** Passed on by a node: whoever gets it and is not the manager does not pass it on again. */
  forwarded?: boolean;
  /** Of the calling node; a node of another cluster refuses with CLUSTER_MISMATCH. */
  cluster?: string | undefined;
  /** How long the body may be, bytes; default `BODY_BYTES_MAX`. */
  bytesMax?: number;
  /** Gives the call up. */
  signal?: AbortSignal;
}

/** To be answered within `timeoutMs` as a whole, while `signal` does not end it. */
export interface Call {
  readonly method: 'GET' | 'POST';
  /** HOST:PORT */
  readonly address: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Null: a GET has none. */
  readonly body: Uint8Array | null;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
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
  /**
   * What is newer than the revision `after` (null: the caller has none) of what routes statements: at once,
   * or when it comes; to be called again and again. Throws NO_MANAGER where the node has heard nothing yet.
   */
  topology(address: string, after: number | null, options?: CallOptions): Promise<TopologyAnswer>;
  /** Any of `Calls`. */
  ask<N extends CallName>(
    address: string,
    name: N,
    body: Calls[N]['sends'],
    options?: CallOptions,
  ): Promise<Calls[N]['gets']>;
}

export function clientOver(transport: Transport): Client {
  const resultOf = async (
    address: string,
    call: Pick<Call, 'method' | 'path' | 'body'>,
    { timeoutMs = TIMEOUT_MS, signal, ...from }: CallOptions,
  ): Promise<unknown> => {
    const headers = { ...(call.body ? { 'content-type': 'application/json' } : {}), ...headersOf(from) };
    const { status, text } = await transport({ address, ...call, headers, timeoutMs, signal });
    const answer = parseAnswer(text);
    if (answer === null) throw tideError('NOT_PGTIDE', { address, status });
    if ('error' in answer) throw new TideError(answer.error);
    return answer.result;
  };
  const ask: Client['ask'] = async <N extends CallName>(
    address: string,
    name: N,
    content: Calls[N]['sends'],
    options: CallOptions = {},
  ) => {
    const { bytesMax = BODY_BYTES_MAX } = options;
    const body = new TextEncoder().encode(JSON.stringify(content));
    if (body.byteLength > bytesMax) throw tideError('BODY_TOO_LARGE', { bytesMax });
    return resultOf(address, { method: 'POST', path: `/api/v1/${name}`, body }, options) as Promise<Calls[N]['gets']>;
  };
  return {
    ask,
    admin: async <R extends AdminRequest>(address: string, command: R, options?: CallOptions) =>
      (await ask(address, 'admin', command, options)) as Results[R['do']],
    whoIs: (address, options) => ask(address, 'whoami', {}, options),
    quit: async (address, options) => {
      await ask(address, 'quit', {}, options);
    },
    topology: async (address, after, options) => {
      const path = `/api/v1/topology${after === null ? '' : `?after=${after}`}`;
      const call = { method: 'GET', path, body: null } as const;
      const answer = await resultOf(address, call, { timeoutMs: TOPOLOGY_WAIT_MS + LATE_MS, ...options });
      return answer as TopologyAnswer;
    },
  };
}

function headersOf({ forwarded = false, cluster }: CallOptions): Record<string, string> {
  return {
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
