import type { ApplyError } from '../core/apply-error.ts';
import type { ClusterView, NodeId } from './model.ts';
import { parsePartitionTable, partitionTable } from './names.ts';
import { partitionOf, replicaOn } from './view.ts';

/**
 * What is to be done about a stream that fails again and again at the same place: PostgreSQL tries five times
 * a second, for ever, and nothing that the pair of nodes shares goes on. Everything here is a decision;
 * `manager/apply-keeper.ts` carries it out.
 */

/** What the node `to` fails at in what it is sent by `from`. */
export interface ApplyFailure extends ApplyError {
  from: NodeId;
  to: NodeId;
}

/**
 * Fewer, or within less time, may be chance: a deadlock with somebody who looks, a server that is being
 * stopped.
 */
const TRIES = 4;
const LASTS_MS = 2_500;
/** One that has not come back for as long is over. */
const RECENT_MS = 3_000;
/**
 * A sender that is not reached, though it lives: for some seconds, one of the two is starting or stopping.
 */
const LINK_LASTS_MS = 10_000;
const LINK_RECENT_MS = 1_500;

/**
 * The state of a server, not of a row: every other row would fail like this one, and its copy, too. It goes
 * on where there is room.
 */
const OF_SERVER =
  /No space left on device|[Dd]isk quota exceeded|^out of (?:shared )?memory|^too many|^canceling statement|^terminating |^deadlock detected/;
/** The sender, or the way to it. */
const OF_LINK = /could not connect to the publisher|^could not (?:receive|send|start) |on publisher/;
/**
 * The table itself does not fit, which PostgreSQL finds before it asks whether it has to apply anything to
 * it.
 */
const UNFIT = /^(?:logical replication target relation|cannot use relation) "/;

/** Sender and receiver of a stream; null for a subscription that is not pgtide's. */
export function streamEnds(name: string): { from: NodeId; to: NodeId } | null {
  const [, from, to] = /^tide_(\d{1,9})_(\d{1,9})$/.exec(name) ?? [];
  return from === undefined ? null : { from: Number(from), to: Number(to) };
}

/** Whether a failure that was reported `heardMs` ago stays; both ends have been alive for `aliveMs`. */
export function lasts(error: ApplyError, heardMs: number, aliveMs: number): boolean {
  const ageMs = error.agoMs + heardMs;
  if (isOfLink(error)) return Math.min(error.forMs, aliveMs) >= LINK_LASTS_MS && ageMs <= LINK_RECENT_MS;
  return error.tries >= TRIES && error.forMs >= LASTS_MS && ageMs <= RECENT_MS;
}

function isOfLink({ copying, place, message }: ApplyError): boolean {
  return (!copying && place === '') || OF_LINK.test(message);
}

/** Whether it ends by itself when a server, or the way to it, is well again. */
export function passes(error: ApplyError): boolean {
  return isOfLink(error) || OF_SERVER.test(error.message);
}

/** The partition whose row, or table, it is. */
export function partitionIn({ table }: Pick<ApplyError, 'table'>): { tid: number; pid: number } | null {
  if (table === null) return null;
  const ref = parsePartitionTable(table);
  return partitionTable(ref.tid, ref.pid) === table ? ref : null;
}

/**
 * `take-out`: the partition leaves the stream, and what else is in it goes on. `renew`: it does, and gets an
 * empty table in place of one that does not fit. `cut`: the stream is given up, with all that came through
 * it. `none`: it is only told of.
 */
export type Remedy = 'none' | 'take-out' | 'renew' | 'cut';

/** What helps, after `tried` remedies that did not. */
export function remedyFor(view: ClusterView, failure: ApplyFailure, tried: number): Remedy {
  const { copying, message, to } = failure;
  // A copy holds up nobody, and its operation ends it.
  if (copying || passes(failure)) return 'none';
  const ref = partitionIn(failure);
  const partition = ref ? partitionOf(view, ref.tid, ref.pid) : undefined;
  // Rows of its own place in the cluster are never thrown away for what comes from elsewhere.
  if (partition?.leader === to) return 'none';
  if (ref === null || tried >= 2) return 'cut';
  const isKnown = partition !== undefined && replicaOn(partition, to) !== undefined;
  if (tried === 0 && !(isKnown && UNFIT.test(message))) return 'take-out';
  return isKnown ? 'renew' : 'cut';
}

const HOLD_MS = 10_000;
const HOLD_MS_MAX = 300_000;

/** What did not help so often helps no sooner than after a pause that doubles. */
function pauseMs(times: number): number {
  return times === 0 ? 0 : Math.min(HOLD_MS_MAX, HOLD_MS * 2 ** (times - 1));
}

/**
 * How long after the last remedy the next one may come. A stream that is made anew and fails again would be
 * copied all the time.
 */
export function remedyPauseMs(remedy: Remedy, cuts: number): number {
  return remedy === 'cut' ? pauseMs(cuts) : 0;
}

/** Failures that are further apart have nothing to do with each other. */
const APART_MS = 900_000;

/** How often in a row a replica was given up, and when last. */
export interface GivenUp {
  count: number;
  atMs: number;
  why: string;
}

export function givenUpAgain(before: GivenUp | undefined, why: string, nowMs: number): GivenUp {
  const isSame = before !== undefined && nowMs - before.atMs < APART_MS;
  return { count: isSame ? before.count + 1 : 1, atMs: nowMs, why };
}

/** For how long it is not copied again yet: the first time it is at once, then after pauses that double. */
export function heldBackMs({ count, atMs }: GivenUp, nowMs: number): number {
  return Math.max(0, atMs + pauseMs(Math.max(0, count - 1)) - nowMs);
}
