import * as z from 'zod';
import type { TopologyChange } from '../routing/topology.ts';

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
