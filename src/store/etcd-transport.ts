import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf, tideError } from '../core/errors.ts';
import { EtcdRefusal, type EtcdTransport } from './etcd-api.ts';

/**
 * How long a call goes from server to server: an etcd that elects a new leader is back by then (its election
 * takes a second or two).
 */
const PATIENCE_MS = 4_000;
/** One server may take this long: it is frozen, or it waits for a majority that is not there. */
const ATTEMPT_MS = 1_500;
const PAUSE_MS = 100;
/**
 * gRPC: deadline exceeded, unavailable (no leader, leader changed, request timed out). Another server may do,
 * or this one a little later.
 */
const PASSING = new Set([4, 14]);

/**
 * Calls whichever of the servers answers, for at most `patienceMs`; the one that answered last is asked
 * first. A call that was cut off may have been carried out all the same, and is repeated: only what may be
 * done twice is to be called.
 */
export function overFetch(endpoints: readonly string[], patienceMs = PATIENCE_MS): EtcdTransport {
  let current = 0;
  return async (path, body) => {
    const untilMs = performance.now() + patienceMs;
    let why = '';
    for (let tries = 1; ; tries++) {
      const leftMs = untilMs - performance.now();
      // A try that is cut short at once would only hide what the others have met.
      if (leftMs < PAUSE_MS && tries > 1) throw tideError('META_UNREACHABLE', { endpoints: endpoints.join(', '), why });
      const endpoint = endpoints[current % endpoints.length] as string;
      const answer = await attempt(endpoint, path, body, Math.min(ATTEMPT_MS, Math.max(leftMs, PAUSE_MS)));
      if ('value' in answer) return answer.value;
      why = `${endpoint}: ${answer.why}`;
      current += 1;
      if (tries % endpoints.length === 0) await sleep(PAUSE_MS);
    }
  };
}

type Answer = { value: Record<string, unknown> } | { why: string };

async function attempt(endpoint: string, path: string, body: object, timeoutMs: number): Promise<Answer> {
  let text: string;
  let status: number;
  try {
    const response = await fetch(`http://${endpoint}/v3/${path}`, {
      method: 'POST',
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(Math.ceil(timeoutMs)),
    });
    text = await response.text();
    status = response.status;
  } catch (error) {
    return { why: reasonOf(error) };
  }
  const value = parseObject(text);
  if (value === null) return { why: `what answers there is not etcd 3.4 or later (HTTP status ${status})` };
  const failure = failureOf(value);
  if (failure === null) return { value };
  if (!PASSING.has(failure.status)) throw new EtcdRefusal(failure.status, failure.message);
  return { why: failure.message };
}

/**
 * A call answers `{code, message}` where it fails; one that could have answered more than once, `{error:
 * {grpc_code, message}}`.
 */
function failureOf(value: Record<string, unknown>): { status: number; message: string } | null {
  if (typeof value.code === 'number') return { status: value.code, message: String(value.message ?? value.error) };
  if (typeof value.error !== 'object' || value.error === null) return null;
  const { grpc_code: status, message } = value.error as { grpc_code?: unknown; message?: unknown };
  return { status: Number(status), message: String(message) };
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof Error && error.name === 'TimeoutError') return `no answer within ${ATTEMPT_MS / 1000} s`;
  // fetch says "fetch failed", its cause what happened.
  return messageOf(error instanceof Error && error.cause !== undefined ? error.cause : error);
}
