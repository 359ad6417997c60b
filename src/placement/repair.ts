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
  const takers = draft.nodes.takers();
  const scales = new Scales(draft, takers);
  for (let p = 0; p < draft.partitions.records.length; p++) {
    if (draft.partitions.frozen[p] === 1) continue;
    for (const n of [...draft.replicas.holdersOf(p)].sort((a, b) => a - b)) {
      if (draft.replicas.isReady(p, n) || draft.nodes.leaves[n] === 1) continue;
      if (!draft.hasLiveLeader(p)) blocked.push(noTarget(draft, p, n));
      else if (draft.nodes.alive[n] === 0) blocked.push(draft.blocked(p, n, notAlive(draft, p, n, 'copied again')));
      else if (draft.heldBack(p, n)) blocked.push(draft.blocked(p, n, heldBack(draft, p, n)));
      else draft.resyncReplica(p, n, `its replica on node ${draft.nodes.id(n)} missed changes`);
    }
    const wanted = draft.partitions.tableOf(p).replicaCount;
    while (draft.replicas.holdersOf(p).length < wanted) {
      const to = draft.hasLiveLeader(p) ? bestTarget(draft, scales, p, takers) : -1;
      if (to < 0) {
        blocked.push(noTarget(draft, p, -1));
        break;
      }
      draft.addReplica(
        p,
        to,
        'repair',
        `${draft.partitions.name(p)} has ${draft.replicas.holdersOf(p).length} of ${wanted} replicas`,
      );
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
  const takers = draft.nodes.takers();
  const scales = new Scales(draft, takers);
  for (const { p, from } of leavingReplicas(draft)) {
    const reason = `node ${draft.nodes.id(from)} is being decommissioned`;
    const spare =
      draft.leaders.of[p] !== from && draft.replicas.holdersOf(p).length > draft.partitions.tableOf(p).replicaCount;
    if (spare && draft.hasLiveLeader(p) && draft.nodes.alive[from] === 1) {
      draft.removeReplica(
        p,
        from,
        'drain',
        `${reason} and ${draft.partitions.name(p)} has more replicas than it wants`,
      );
      continue;
    }
    if (draft.nodes.alive[from] === 0 && draft.hasLiveLeader(p)) {
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
  return `the replica of ${draft.partitions.name(p)} on node ${draft.nodes.id(n)} waits: ${draft.heldBack(p, n)}`;
}

function notAlive(draft: Draft, p: number, n: number, fate: string): string {
  return `node ${draft.nodes.id(n)} is not alive: its replica of ${draft.partitions.name(p)} cannot be ${fate}`;
}

function leavingReplicas(draft: Draft): { p: number; from: number }[] {
  const found: { p: number; from: number }[] = [];
  draft.nodes.leaves.forEach((leaves, from) => {
    if (leaves === 0) return;
    for (const p of draft.replicas.heldBy(from)) if (draft.partitions.frozen[p] === 0) found.push({ p, from });
  });
  const leads = (r: { p: number; from: number }) => Number(draft.leaders.of[r.p] === r.from);
  const size = (r: { p: number }) => draft.partitions.size[r.p] ?? 0;
  return found.sort((a, b) => leads(a) - leads(b) || size(b) - size(a) || a.p - b.p || a.from - b.from);
}

/**
 * A draining node keeps its replicas and leads nothing, where a ready follower on a sound node can take over.
 */
export function resign(draft: Draft): void {
  for (let p = 0; p < draft.partitions.records.length; p++) {
    const from = draft.leaders.of[p] ?? -1;
    if (!draft.nodes.records[from]?.draining || draft.nodes.leaves[from] === 1 || !draft.isFree(p)) continue;
    let best = -1;
    let fewest = Number.POSITIVE_INFINITY;
    for (const n of [...draft.replicas.holdersOf(p)].sort((a, b) => a - b)) {
      if (draft.nodes.takes[n] === 0 || !draft.replicas.isReady(p, n)) continue;
      const leads = (draft.leaders.count[n] ?? 0) + draft.leaders.ofTable(draft.partitions.table[p] ?? 0, n);
      if (leads < fewest) [best, fewest] = [n, leads];
    }
    if (best >= 0) draft.changeLeader(p, best, 'drain', `node ${draft.nodes.id(from)} is draining`);
  }
}
