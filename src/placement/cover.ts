import type { NodeId } from '../catalog/model.ts';
import { partitionKey } from '../catalog/view.ts';
import type { Draft } from './draft.ts';
import { balanceLeaders } from './leaders.ts';
import type { Blocked } from './moves.ts';
import { resign } from './repair.ts';
import { Scales } from './scales.ts';
import { bestTarget, noTarget } from './targets.ts';

/**
 * A planned stop leaves this many live replicas elsewhere, where the table wants as many: one to lead, one to
 * follow.
 */
const ELSEWHERE = 2;

/**
 * Prepares the stop of a draining node: a partition that would have nobody to lead it, or whose leader would
 * have nobody to follow it, gets a further copy for the time; then the node leads nothing. One that was
 * drained `alone` gets no copies made.
 */
export function cover(draft: Draft, id: NodeId): Blocked[] {
  const blocked: Blocked[] = [];
  const takers = draft.nodes.takers();
  const scales = new Scales(draft, takers);
  const away = draft.nodes.find(id);
  const isAlone = draft.nodes.records[away]?.drained?.alone === true;
  for (const p of isAlone || away < 0 ? [] : [...draft.replicas.heldBy(away)].sort((a, b) => a - b)) {
    if (draft.partitions.frozen[p] === 1) continue;
    const wanted = Math.min(ELSEWHERE, draft.partitions.tableOf(p).replicaCount);
    let there = lasting(draft, p);
    // Nobody else repairs while a drain is under way.
    for (const n of there < wanted ? behind(draft, p) : []) {
      draft.resyncReplica(p, n, `its replica on node ${draft.nodes.id(n)} missed changes`);
      there++;
    }
    for (; there < wanted; there++) {
      const to = draft.hasLiveLeader(p) ? bestTarget(draft, scales, p, takers) : -1;
      if (to < 0) {
        blocked.push(noTarget(draft, p, away));
        break;
      }
      const left = there === 0 ? 'nobody would lead it' : 'its leader would have no follower';
      draft.addReplica(
        p,
        to,
        'drain',
        `while node ${draft.nodes.id(away)} is away ${left}: a copy of ${draft.partitions.name(p)} for the time`,
      );
    }
  }
  resign(draft);
  return blocked;
}

/** Replicas in step on nodes that stay. */
function lasting(draft: Draft, p: number): number {
  return draft.replicas.holdersOf(p).filter((n) => draft.nodes.takes[n] === 1 && draft.replicas.isReady(p, n)).length;
}

/** Live nodes that stay and whose replicas have missed changes. */
function behind(draft: Draft, p: number): number[] {
  if (!draft.hasLiveLeader(p)) return [];
  return draft.replicas
    .holdersOf(p)
    .filter((n) => draft.nodes.takes[n] === 1 && draft.nodes.alive[n] === 1 && !draft.replicas.isReady(p, n));
}

/**
 * Gives a node that was drained back exactly what it led, and removes the copies that were made for the time.
 * What it missed is copied again first. A node that is away gets nothing, and nobody waits for it: what was
 * taken from it stays where it is.
 */
export function giveBack(draft: Draft, id: NodeId): Blocked[] {
  const node = draft.nodes.find(id);
  if (node < 0 || draft.nodes.takes[node] === 0) return [];
  const drained = draft.nodes.records[node]?.drained;
  // Nothing was noted: drained by a pgtide that evened leaders out instead.
  if (!drained) {
    balanceLeaders(draft);
    return [];
  }
  for (const p of draft.replicas.heldBy(node)) {
    const missed = draft.partitions.frozen[p] === 0 && !draft.replicas.isReady(p, node) && draft.hasLiveLeader(p);
    if (missed) draft.resyncReplica(p, node, `its replica on node ${id} missed changes`);
  }
  const blocked: Blocked[] = [];
  const led = new Set(drained.leaders);
  const copies = new Map(drained.copies.map((copy) => [partitionKey(copy.tid, copy.pid), draft.nodes.find(copy.node)]));
  for (let p = 0; p < draft.partitions.records.length; p++) {
    const { tid, pid } = draft.partitions.record(p);
    const key = partitionKey(tid, pid);
    const leads = draft.leaders.of[p] === node;
    if (led.has(key) && !leads && draft.replicas.isReady(p, node) && draft.isFree(p))
      draft.changeLeader(p, node, 'restore', `node ${id} led it before it was drained`);
    const copy = copies.get(key);
    if (copy !== undefined) blocked.push(...removeCopy(draft, p, copy));
  }
  return blocked;
}

/** Once the table's own replicas are whole again. */
function removeCopy(draft: Draft, p: number, copy: number): Blocked[] {
  const wanted = draft.partitions.tableOf(p).replicaCount;
  // One that others have gone for is one of the table's own by now.
  if (
    copy < 0 ||
    !draft.replicas.holds(copy, p) ||
    draft.replicas.holdersOf(p).length <= wanted ||
    draft.partitions.frozen[p] === 1
  )
    return [];
  const others = draft.replicas
    .holdersOf(p)
    .filter((n) => n !== copy && draft.nodes.alive[n] === 1 && draft.replicas.isReady(p, n));
  if (others.length < wanted) {
    const why = `the copy of ${draft.partitions.name(p)} on node ${draft.nodes.id(copy)} stays until ${wanted} other replicas are alive and in step`;
    return [draft.blocked(p, copy, why)];
  }
  if (draft.leaders.of[p] === copy) {
    const able = others.filter((n) => draft.nodes.takes[n] === 1);
    const [heir] = able.sort((a, b) => (draft.leaders.count[a] ?? 0) - (draft.leaders.count[b] ?? 0) || a - b);
    if (heir === undefined || !draft.isFree(p)) return [];
    draft.changeLeader(p, heir, 'restore', `its leader on node ${draft.nodes.id(copy)} was a copy for the time`);
  }
  draft.removeReplica(p, copy, 'restore', 'it was a copy for the time that a node was drained');
  return [];
}
