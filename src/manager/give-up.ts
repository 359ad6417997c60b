import type { CatalogChange } from '../catalog/change.ts';
import type { NodeId, Partition } from '../catalog/model.ts';
import type { QuorumKeeper } from '../operations/quorum-keeper.ts';
import type { Promotions } from './promotions.ts';

export interface GiveUpPorts {
  quorums: Pick<QuorumKeeper, 'demanding' | 'settle'>;
  promotions: Promotions;
  commit(changes: CatalogChange[]): Promise<void>;
}

/**
 * A follower that misses rows, or is about to, counts no more and is to be copied again. Nobody makes it the
 * leader meanwhile; the last commit that was acknowledged for its sake alone comes before it counts no more.
 * `of`: what it follows `leader` in, asked anew when all that is so. Gives what was given up; null, and
 * nothing done, where somebody is about to lead by what he has: it is asked to be undone.
 */
export async function giveUpFollower(
  { quorums, promotions, commit }: GiveUpPorts,
  leader: NodeId,
  follower: NodeId,
  of: () => readonly Partition[],
  why: string,
): Promise<readonly Partition[] | null> {
  if (!(await promotions.end(leader, follower, of()))) return null;
  const partitions = of();
  const demands = partitions.map(({ tid, pid }) => ({ node: leader, tid, pid, without: [follower] }));
  const stale = partitions.map(
    ({ tid, pid }) => ({ kind: 'replica-changed', tid, pid, node: follower, state: 'stale', why }) as const,
  );
  await quorums.demanding(leader, demands, () => commit(stale));
  await quorums.settle(leader);
  return partitions;
}
