import * as z from 'zod';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import type { TopologyChange } from '../routing/topology.ts';
import { CALLER_CLUSTER, FORWARDED, OWN_CALL } from './headers.ts';

/**
 * `GET /api/v1/topology?after=REVISION` of any node: what has changed since that revision; without one, or
 * where the node does not know it, all.
 */
export const topologyQuery = z.strictObject({
  after: z
    .string()
    .regex(/^\d{1,15}$/, 'not a revision')
    .transform(Number)
    .optional(),
});

export interface TopologyAnswer {
  /** Null: within the time that a node waits (`TOPOLOGY_WAIT_MS`) nothing newer has come. */
  change: TopologyChange | null;
  /** How long ago the manager last said that this is the newest. */
  ageMs: number;
}

/** How long a node keeps whoever has the newest revision waiting for the next one. */
export const TOPOLOGY_WAIT_MS = 10_000;

const LATE_MS = 5_000;

export interface TopologyCall {
  /** The revision that the caller has; null: none. */
  after: number | null;
  /** How long the call may take; by default a little longer than a node keeps callers waiting. */
  timeoutMs?: number;
  /** Asked by a node: only the manager answers. */
  forwarded?: boolean;
  /** Of the calling node; a node of another cluster refuses with CLUSTER_MISMATCH. */
  cluster?: string | undefined;
  signal?: AbortSignal;
}

/**
 * What is newer than `after`, from the node at `address` (HOST:PORT of its listen or HTTP port); to be called
 * again and again. Throws what the node answers (NO_MANAGER: it has heard nothing yet; NODE_BUSY),
 * UNREACHABLE, NOT_PGTIDE.
 */
export async function fetchTopology(address: string, call: TopologyCall): Promise<TopologyAnswer> {
  const { after, timeoutMs = TOPOLOGY_WAIT_MS + LATE_MS, forwarded = false, cluster, signal } = call;
  const ends = [AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])];
  let answer: { status: number; text: string };
  try {
    const url = new URL(`http://${address}/api/v1/topology${after === null ? '' : `?after=${after}`}`);
    const headers = {
      [OWN_CALL]: '1',
      ...(forwarded ? { [FORWARDED]: '1' } : {}),
      ...(cluster === undefined ? {} : { [CALLER_CLUSTER]: cluster }),
    };
    const response = await fetch(url, { headers, signal: AbortSignal.any(ends), redirect: 'error' });
    answer = { status: response.status, text: await response.text() };
  } catch (error) {
    const { cause } = error as { cause?: unknown };
    throw tideError('UNREACHABLE', { address, why: messageOf(cause ?? error) }, error);
  }
  const { result, error } = parsed(answer.text);
  if (typeof error?.code === 'string') throw new TideError(error);
  if (result === undefined) throw tideError('NOT_PGTIDE', { address, status: answer.status });
  return result;
}

function parsed(text: string): { result?: TopologyAnswer; error?: ConstructorParameters<typeof TideError>[0] } {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}
