import type { CatalogChange } from '../catalog/change.ts';
import type { ClusterView, NodeId, Partition } from '../catalog/model.ts';
import { fedThrough, replicaOn, servedBy } from '../catalog/view.ts';
import type { PartitionRef, Streams } from '../operations/ports.ts';
import type { QuorumKeeper } from '../operations/quorum-keeper.ts';
import type { Promotions } from './promotions.ts';

/**
 * Giving up what a stream no longer brings: nobody makes its receiver the leader, no commit counts on it, its
 * replicas are stale and are copied again. Only then the stream is touched.
 */

export interface GiveUpPorts {
  quorums: Pick<QuorumKeeper, 'demanding' | 'settle'>;
  promotions: Promotions;
  view(): ClusterView;
  commit(changes: CatalogChange[]): Promise<void>;
}

/** What `follower` misses, or is about to, of all that `leader` feeds it or of one partition. */
export interface Missed {
  leader: NodeId;
  follower: NodeId;
  only?: PartitionRef | null;
  why: string;
}

/**
 * Gives up what is followed in step, asked anew when nobody is about to lead by it. The last commit that was
 * acknowledged for the follower's sake alone comes before it counts no more. Gives what was given up; null,
 * and nothing done, where the follower is about to lead by what it has: that is asked to be undone.
 */
export async function giveUpFollower(ports: GiveUpPorts, missed: Missed): Promise<readonly Partition[] | null> {
  const { quorums, promotions, view, commit } = ports;
  const { leader, follower, why } = missed;
  if (!(await promotions.end(leader, follower, followedIn(view(), missed)))) return null;
  const partitions = followedIn(view(), missed);
  const demands = partitions.map(({ tid, pid }) => ({ node: leader, tid, pid, without: [follower] }));
  const stale = staleOn(follower, partitions, why);
  let isGiven = false;
  await quorums.demanding(leader, demands, async () => {
    // A change of leader may have begun while the quorum changed. Before its swing it sees what has changed.
    isGiven = !promotions.maySwing(leader, follower, partitions);
    if (isGiven) await commit(stale);
  });
  await quorums.settle(leader);
  return isGiven ? partitions : null;
}

/**
 * The same, and what is still being copied: its operation may be about to count it, and ends, and whoever
 * wants it begins anew.
 */
export async function giveUpReceiver(ports: GiveUpPorts, missed: Missed): Promise<readonly Partition[] | null> {
  const { view, commit } = ports;
  const { follower, why } = missed;
  const all: Partition[] = [];
  // One that was being copied may count by the time of the commit that says otherwise.
  while (followedIn(view(), missed).length > 0 || copiedIn(view(), missed).length > 0) {
    const given = followedIn(view(), missed).length === 0 ? [] : await giveUpFollower(ports, missed);
    if (given === null) return null;
    const copied = copiedIn(view(), missed);
    if (copied.length > 0) await commit(staleOn(follower, copied, why, 'joining'));
    all.push(...given, ...copied);
  }
  return all;
}

function followedIn(view: ClusterView, { leader, follower, only }: Missed): Partition[] {
  return among(fedThrough(view, leader, follower), only);
}

function copiedIn(view: ClusterView, { leader, follower, only }: Missed): Partition[] {
  return among(servedBy(view, leader), only).filter((p) => replicaOn(p, follower)?.state === 'joining');
}

function among(found: readonly Partition[], only: PartitionRef | null | undefined): Partition[] {
  return found.filter((p) => !only || (p.tid === only.tid && p.pid === only.pid));
}

/** What makes replicas on `node` stale. `was`: only those that are that still. */
function staleOn(node: NodeId, partitions: readonly PartitionRef[], why: string, was?: 'joining'): CatalogChange[] {
  const before = was ? { was } : {};
  return partitions.map(({ tid, pid }) => ({
    kind: 'replica-changed',
    tid,
    pid,
    node,
    state: 'stale',
    ...before,
    why,
  }));
}

export interface TakeAwayPorts {
  plane: { streams: Pick<Streams, 'disconnect'> };
  alive(node: NodeId): boolean;
  /** A node has to be given the streams it lacks. */
  reconnect(node: NodeId): void;
}

/**
 * Takes away a stream on which nothing counts any more, and has it made anew. `mayBeAway`: the end that is
 * not asked where it is not alive.
 */
export async function takeStreamAway(
  { plane, alive, reconnect }: TakeAwayPorts,
  from: NodeId,
  to: NodeId,
  mayBeAway: NodeId,
): Promise<void> {
  await plane.streams.disconnect(from, to, alive(mayBeAway) ? undefined : mayBeAway);
  if (alive(to)) reconnect(to);
}
