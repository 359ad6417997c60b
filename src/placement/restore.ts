import { partitionKey } from '../catalog/view.ts';
import type { Draft } from './draft.ts';
import type { Blocked, WantedPlacement } from './moves.ts';
import { noTarget } from './targets.ts';

const REASON = 'it was there before the decommission that was cancelled';

/**
 * Puts every partition of `placement` back on the nodes it was on, then its leader. Others are left alone.
 */
export function restore(draft: Draft, placement: ReadonlyMap<string, WantedPlacement>): Blocked[] {
  const blocked: Blocked[] = [];
  for (let p = 0; p < draft.partitions.records.length; p++) {
    const { tid, pid } = draft.partitions.record(p);
    const wanted = placement.get(partitionKey(tid, pid));
    if (!wanted || draft.partitions.frozen[p] === 1) continue;
    const nodes = wanted.nodes.map((id) => draft.nodes.find(id));
    blocked.push(...restoreReplicas(draft, p, nodes));
    const leader = draft.nodes.find(wanted.leader);
    if (draft.leaders.of[p] === leader || !draft.isFree(p)) continue;
    if (leader >= 0 && draft.nodes.takes[leader] === 1 && draft.replicas.isReady(p, leader)) {
      draft.changeLeader(p, leader, 'restore', REASON.replace('it was there', `node ${wanted.leader} led it`));
    }
  }
  return blocked;
}

function restoreReplicas(draft: Draft, p: number, wanted: readonly number[]): Blocked[] {
  const missing = wanted.filter((n) => n >= 0 && !draft.replicas.holds(n, p)).sort((a, b) => a - b);
  // The leader's replica goes last: it is the one whose move ends in a swing.
  const leads = (n: number) => Number(draft.leaders.of[p] === n);
  const surplus = draft.replicas
    .holdersOf(p)
    .filter((n) => !wanted.includes(n))
    .sort((a, b) => leads(a) - leads(b) || a - b);
  const blocked: Blocked[] = [];
  for (const to of missing) {
    const size = draft.partitions.size[p] ?? 0;
    const fits = size === 0 || (draft.replicas.room[to] ?? 0) >= size;
    if (!draft.hasLiveLeader(p)) {
      blocked.push(noTarget(draft, p, -1));
    } else if (draft.nodes.takes[to] === 0 || !fits) {
      const why = `node ${draft.nodes.id(to)} cannot take back ${draft.partitions.name(p)}: ${fits ? 'it is not an active, live node' : 'its disk has no room above the margin'}`;
      blocked.push(draft.blocked(p, -1, why, fits ? [] : [draft.nodes.id(to)]));
    } else {
      const from = surplus.find((n) => draft.nodes.alive[n] === 1);
      if (from === undefined) draft.addReplica(p, to, 'restore', REASON);
      else {
        surplus.splice(surplus.indexOf(from), 1);
        draft.moveReplica(p, from, to, 'restore', REASON);
      }
    }
  }
  for (const from of surplus) {
    // A stale replica is repaired before it can stand in for this one.
    const others = draft.replicas.holdersOf(p).filter((n) => n !== from && draft.replicas.isReady(p, n)).length;
    if (
      others >= draft.partitions.tableOf(p).replicaCount &&
      draft.leaders.of[p] !== from &&
      draft.isFree(p) &&
      draft.nodes.alive[from] === 1
    ) {
      draft.removeReplica(p, from, 'restore', 'it was not there before the decommission that was cancelled');
    }
  }
  return blocked;
}
