import type { Draft } from './draft.ts';
import type { Blocked } from './moves.ts';
import { Scales } from './scales.ts';
import { bestTarget, noTarget } from './targets.ts';

/**
 * Copies again what is stale and adds what is missing. Replicas above the wanted number were asked for by
 * hand and stay.
 */
export function repair(draft: Draft): Blocked[] {
  const blocked: Blocked[] = [];
  const takers = draft.takers();
  const scales = new Scales(draft, takers);
  for (let p = 0; p < draft.partitions.length; p++) {
    if (draft.frozen[p] === 1) continue;
    for (const n of [...draft.holdersOf(p)].sort((a, b) => a - b)) {
      if (draft.isReady(p, n) || draft.leaves[n] === 1) continue;
      if (!draft.hasLiveLeader(p)) blocked.push(noTarget(draft, p, n));
      else if (draft.alive[n] === 0) blocked.push(draft.blocked(p, n, notAlive(draft, p, n, 'copied again')));
      else if (draft.heldBack(p, n)) blocked.push(draft.blocked(p, n, heldBack(draft, p, n)));
      else draft.resyncReplica(p, n, `its replica on node ${draft.id(n)} missed changes`);
    }
    const wanted = draft.tableOf(p).replicaCount;
    while (draft.holdersOf(p).length < wanted) {
      const to = draft.hasLiveLeader(p) ? bestTarget(draft, scales, p, takers) : -1;
      if (to < 0) {
        blocked.push(noTarget(draft, p, -1));
        break;
      }
      draft.addReplica(p, to, 'repair', `${draft.name(p)} has ${draft.holdersOf(p).length} of ${wanted} replicas`);
    }
  }
  return blocked;
}

/**
 * Empties decommissioning nodes, all of them as one plan, and takes leadership from draining ones. Followers
 * go before leaders, since a leader's move ends in a swing; within each the biggest first, which lets the
 * small ones even out the targets.
 */
export function drain(draft: Draft): Blocked[] {
  const blocked: Blocked[] = [];
  const takers = draft.takers();
  const scales = new Scales(draft, takers);
  for (const { p, from } of leavingReplicas(draft)) {
    const reason = `node ${draft.id(from)} is being decommissioned`;
    const spare = draft.leader[p] !== from && draft.holdersOf(p).length > draft.tableOf(p).replicaCount;
    if (spare && draft.hasLiveLeader(p) && draft.alive[from] === 1) {
      draft.removeReplica(p, from, 'drain', `${reason} and ${draft.name(p)} has more replicas than it wants`);
      continue;
    }
    if (draft.alive[from] === 0 && draft.hasLiveLeader(p)) {
      blocked.push(draft.blocked(p, from, notAlive(draft, p, from, 'removed')));
      continue;
    }
    const to = draft.hasLiveLeader(p) ? bestTarget(draft, scales, p, takers, from) : -1;
    if (to < 0) blocked.push(noTarget(draft, p, from));
    else draft.moveReplica(p, from, to, 'drain', reason);
  }
  resign(draft);
  return blocked;
}

function heldBack(draft: Draft, p: number, n: number): string {
  return `the replica of ${draft.name(p)} on node ${draft.id(n)} waits: ${draft.heldBack(p, n)}`;
}

function notAlive(draft: Draft, p: number, n: number, fate: string): string {
  return `node ${draft.id(n)} is not alive: its replica of ${draft.name(p)} cannot be ${fate}`;
}

function leavingReplicas(draft: Draft): { p: number; from: number }[] {
  const found: { p: number; from: number }[] = [];
  draft.leaves.forEach((leaves, from) => {
    if (leaves === 0) return;
    for (const p of draft.heldBy(from)) if (draft.frozen[p] === 0) found.push({ p, from });
  });
  const leads = (r: { p: number; from: number }) => Number(draft.leader[r.p] === r.from);
  const size = (r: { p: number }) => draft.size[r.p] ?? 0;
  return found.sort((a, b) => leads(a) - leads(b) || size(b) - size(a) || a.p - b.p || a.from - b.from);
}

/**
 * A draining node keeps its replicas and leads nothing, where a ready follower on a sound node can take over.
 */
export function resign(draft: Draft): void {
  for (let p = 0; p < draft.partitions.length; p++) {
    const from = draft.leader[p] ?? -1;
    if (!draft.nodes[from]?.draining || draft.leaves[from] === 1 || !draft.isFree(p)) continue;
    let best = -1;
    let fewest = Number.POSITIVE_INFINITY;
    for (const n of [...draft.holdersOf(p)].sort((a, b) => a - b)) {
      if (draft.takes[n] === 0 || !draft.isReady(p, n)) continue;
      const leads = (draft.leaders[n] ?? 0) + draft.tableLeaders(draft.table[p] ?? 0, n);
      if (leads < fewest) [best, fewest] = [n, leads];
    }
    if (best >= 0) draft.changeLeader(p, best, 'drain', `node ${draft.id(from)} is draining`);
  }
}
