import { setTimeout as sleep } from 'node:timers/promises';
import { ask, whoIs } from '../api/http-client.ts';
import type { StartRequest, WhoAmI } from '../api/membership.ts';
import { TideError, tideError } from '../core/errors.ts';
import { standingOf } from '../core/starts.ts';
import type { SharedStore } from '../store/meta-store.ts';
import { leaseHolder } from '../store/node-leases.ts';
import { isOlder } from './meta-transfer.ts';
import { leaderIn } from './seat.ts';
import type { Starts } from './starts.ts';

export interface AskOptions {
  node: number;
  clusterId: string;
  /** HOST:PORT of this node now, and where its store says that it was last. */
  address: string;
  lastAddress: string;
  starts: Starts;
  /** HOST:PORT of the other members, as last heard. */
  peers: readonly string[];
  /**
   * Where the manager is: in this node, with an embedded meta store; at an address; or wherever the shared
   * store says.
   */
  manager: 'here' | { at: string } | { in: SharedStore };
  /** It was told to end. */
  ended(): boolean;
  say(text: string): void;
}

const WHO_MS = 1_000;
/** The manager looks for the other one before it answers. */
export const ASK_MS = 5_000;
const AGAIN_MS = 250;
const SAY_MS = 5_000;
/**
 * A start that cannot be known to have ended is waited for so long: until leases have run out, and silent
 * ports were looked at.
 */
const PATIENCE_MS = 30_000;
/** A peer that has heard a start so lately may be hearing it still. */
const HEARD_MS = 3_000;
/** In a shared store a manager that is gone has been replaced by then. */
const ELECTION_MS = 10_000;

/** These end a start: whoever asks again is told the same. */
const FINAL: ReadonlySet<string> = new Set(['NODE_TWICE', 'NODE_OVERTAKEN', 'NODE_UNKNOWN']);

export function startRequestOf(of: Pick<AskOptions, 'node' | 'clusterId' | 'address' | 'starts'>): StartRequest {
  const { node, clusterId, address, starts } = of;
  return { node, clusterId, address, start: starts.claim };
}

/**
 * Whether this start of a member may be that member. Asked before its PostgreSQL runs: a second one of the
 * same name would take the streams of the first. Where nobody can be asked it goes on, behind its fence, and
 * asks with its first heartbeat. Throws NODE_TWICE, NODE_OVERTAKEN, NODE_MAY_RUN, JOIN_STOPPED.
 */
export async function askToStart(options: AskOptions): Promise<void> {
  if (options.manager === 'here') return askPeers(options);
  await requireAlone(options, [options.lastAddress]);
  return askManager(options);
}

async function pause({ node, ended }: AskOptions): Promise<void> {
  if (ended()) throw tideError('JOIN_STOPPED', { node, why: 'it was told to end' });
  await sleep(AGAIN_MS);
}

/** Which node of this cluster answers at which of these addresses. */
async function whoAnswers({ clusterId }: AskOptions, addresses: readonly string[]): Promise<[string, WhoAmI][]> {
  const asked = [...new Set(addresses)].map(async (address): Promise<[string, WhoAmI] | null> => {
    const found = await whoIs(address, { timeoutMs: WHO_MS }).catch(() => null);
    return found?.clusterId === clusterId ? [address, found] : null;
  });
  return (await Promise.all(asked)).filter((found) => found !== null);
}

/** The other one hears of it, and tells the manager. Throws NODE_TWICE. */
async function requireAlone(options: AskOptions, addresses: readonly string[]): Promise<[string, WhoAmI][]> {
  const { node, clusterId: cluster, starts } = options;
  const found = await whoAnswers(options, addresses);
  for (const [address, who] of found) {
    if (who.nodeId !== node || who.start === starts.id) continue;
    await ask(address, 'start', startRequestOf(options), { timeoutMs: ASK_MS, cluster }).catch(() => {});
    throw tideError('NODE_TWICE', { node, address });
  }
  return found;
}

/**
 * The node with the embedded meta store would be told by its own manager. So its peers are asked what they
 * have heard: they may be with another start of this node, or of the node that the store has moved to. If
 * none answers it goes on: one has to be the first.
 */
async function askPeers(options: AskOptions): Promise<void> {
  const { node, address, lastAddress, peers, starts, say } = options;
  const untilMs = performance.now() + 2 * HEARD_MS;
  let said = false;
  for (;;) {
    const found = await requireAlone(options, [address, lastAddress, ...peers]);
    const others = found.filter(([, who]) => who.nodeId !== node);
    for (const [, { nodeId, managedBy }] of others) {
      if (managedBy?.node !== node || standingOf(managedBy.start, starts.claim) !== 'stale') continue;
      throw tideError('NODE_OVERTAKEN', {
        node,
        why: `node ${nodeId} has been with a later start of it, on another copy`,
      });
    }
    const fresh = others.flatMap(([, { nodeId, managedBy }]) => {
      const isOwn = managedBy?.node === node && standingOf(managedBy.start, starts.claim) !== 'waits';
      return managedBy && !isOwn && (managedBy.agoMs ?? HEARD_MS) < HEARD_MS ? [{ nodeId, managedBy }] : [];
    });
    const [heard] = fresh;
    if (!heard) break;
    const { managedBy } = heard;
    const why = `node ${heard.nodeId} heard ${managedBy.node === node ? 'it' : `node ${managedBy.node} as the manager`} a moment ago`;
    if (performance.now() > untilMs) throw tideError('NODE_MAY_RUN', { node, address: lastAddress, why });
    if (!said) say(`node ${node} waits to see whether it runs elsewhere: ${why}`);
    said = true;
    await pause(options);
  }
  await starts.admit();
}

async function askManager(options: AskOptions): Promise<void> {
  const { node, lastAddress: address, starts, say } = options;
  const beganMs = performance.now();
  let saidMs = Number.NEGATIVE_INFINITY;
  for (;;) {
    const answer = await askOnce(options);
    const nowMs = performance.now();
    if (answer === 'admitted') return await starts.admit();
    if (answer === 'unknown') return;
    if (answer === 'nobody' && nowMs - beganMs > ELECTION_MS) return;
    const why = answer === 'nobody' ? 'the manager does not answer' : answer.why;
    if (nowMs - beganMs > PATIENCE_MS) throw tideError('NODE_MAY_RUN', { node, address, why });
    if (nowMs - saidMs > SAY_MS) {
      saidMs = nowMs;
      say(`node ${node} waits to know that it does not run elsewhere: ${why}`);
    }
    await pause(options);
  }
}

/**
 * `unknown`: nobody can say, now or in a moment. `nobody`: nobody has answered who will. `why`: it may still
 * run.
 */
type Answer = 'admitted' | 'unknown' | 'nobody' | { why: string };

async function askOnce(options: AskOptions): Promise<Answer> {
  const { clusterId: cluster, address, manager } = options;
  if (manager === 'here') return 'unknown';
  try {
    const at = 'at' in manager ? manager.at : await leaderIn(manager.in);
    // Its own address is that of a manager that it was, and is not yet.
    if ('in' in manager && (at === null || at === address)) return await askLease(options, manager.in);
    if (at === null || at === address) return 'unknown';
    await ask(at, 'start', startRequestOf(options), { timeoutMs: ASK_MS, cluster });
    return 'admitted';
  } catch (error) {
    if (!(error instanceof TideError)) throw error;
    if (FINAL.has(error.code)) throw error;
    if (error.code === 'NODE_MAY_RUN') return { why: String(error.details.why) };
    if ('at' in manager || isOlder(error) || error.code === 'META_UNREACHABLE') return 'unknown';
    return 'nobody';
  }
}

/**
 * Where nobody manages, the shared store still says whether a start of this node may be serving. Throws
 * NODE_TWICE.
 */
async function askLease({ node, lastAddress: address, starts }: AskOptions, store: SharedStore): Promise<Answer> {
  const holder = await leaseHolder(store, node);
  if (holder === null) return 'admitted';
  if (holder.start === null) return 'unknown';
  const standing = standingOf(holder.start, starts.claim);
  if (standing === 'stale') throw tideError('NODE_TWICE', { node, address });
  return standing === 'waits' ? { why: 'it has a lease in etcd that has not run out yet' } : 'admitted';
}
