import { setTimeout as sleep } from 'node:timers/promises';
import type { BeatAnswer } from '../api/membership.ts';
import { type TideError, tideError } from '../core/errors.ts';
import type { PostgresServer } from '../postgres/server.ts';
import { waitText } from './fence-keeper.ts';

/**
 * A restarted node waits this long to make up for what it missed; then it serves what it has, which forwards
 * and is never wrong.
 */
const CATCH_UP_MS = 15_000;
const WAIT_REPORT_MS = 5_000;
const LOOK_MS = 50;

export interface Membership {
  nodeId: number;
  /** Directory of the store. */
  path: string;
  isNew: boolean;
  server: Pick<PostgresServer, 'fenced' | 'letsIn'>;
  /** The manager's last answer. */
  answer(): BeatAnswer | null;
  /** It will not be a member. */
  refusal(): TideError | null;
  /** Why the manager does not take its beats, where that may pass. */
  trouble(): string | null;
  leased(): boolean;
  ended(): boolean;
  say(text: string): void;
}

/**
 * Until the cluster has taken a new node in, or one that was away has caught up. Throws what keeps it out,
 * JOIN_STOPPED.
 */
export async function awaitMembership(m: Membership): Promise<void> {
  const { nodeId, isNew, server, say } = m;
  const beganMs = performance.now();
  let reportedMs = beganMs;
  for (;;) {
    const refusal = m.refusal();
    if (refusal) throw refusal;
    const answer = m.answer();
    // The cluster could not take it in, or let it go while it was away: its id is spent.
    if (answer?.state === 'decommissioned') throw tideError('STORE_DECOMMISSIONED', { path: m.path, nodeId });
    if (answer && answer.state !== 'joining' && server.letsIn && (isNew || answer.upToDate)) return;
    const now = performance.now();
    if (m.ended()) throw tideError('JOIN_STOPPED', { node: nodeId, why: 'it was told to end' });
    if (!isNew && answer?.state !== 'joining' && server.letsIn && now - beganMs > CATCH_UP_MS) {
      const why = answer ? 'other nodes are slow to answer' : 'the manager does not answer';
      say(`node ${nodeId} serves before it has caught up: ${why}\n`);
      return;
    }
    if (now - reportedMs > WAIT_REPORT_MS) {
      reportedMs = now;
      say(`node ${nodeId} ${waitText(answer, server.fenced, m.leased(), m.trouble())}\n`);
    }
    await sleep(LOOK_MS);
  }
}
