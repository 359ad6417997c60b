import type { LoadView, NodeId } from '../catalog/model.ts';
import { partitionKey, partitionOf } from '../catalog/view.ts';
import type { Draft, StagedMove } from './draft.ts';
import type { Move } from './moves.ts';
import { roomOf } from './room.ts';

/**
 * The draft's moves with the same outcome and fewer copies. The balance looks one move ahead, so it may take
 * a replica from A to B and later from B to C: where a partition's moves copy more often than it gets new
 * nodes, they are replaced by what is left of them in the end. Where a detour was what made room on a full
 * disk, the plan is kept as it was.
 */
export function shorten(draft: Draft, load: LoadView): readonly StagedMove[] {
  const byPartition = new Map<string, number[]>();
  draft.moves.forEach(({ move }, i) => {
    const key = partitionKey(move.tid, move.pid);
    const found = byPartition.get(key);
    if (found) found.push(i);
    else byPartition.set(key, [i]);
  });
  const shorter: (StagedMove | null)[] = [...draft.moves];
  for (const places of byPartition.values()) if (places.length > 1) replace(draft, shorter, places);
  const moves = shorter.filter((staged) => staged !== null);
  return isSafe(draft, load, moves) ? moves : draft.moves;
}

/** Puts the net moves of one partition in the places of its first ones. */
function replace(draft: Draft, moves: (StagedMove | null)[], places: readonly number[]): void {
  const before = places.map((i) => moves[i]).filter((staged) => staged !== null && staged !== undefined);
  const copies = before.filter(({ move }) => move.kind === 'add-replica' || move.kind === 'move-replica');
  if (before.some(({ move }) => move.kind === 'resync-replica' || move.kind === 'remove-replica')) return;
  const net = netMoves(draft, before, copies);
  const fewerCopies =
    net.filter(({ move }) => move.bytes > 0).length < copies.filter(({ move }) => move.bytes > 0).length;
  if (net.length > before.length || (net.length === before.length && !fewerCopies)) return;
  places.forEach((place, i) => {
    moves[place] = net[i] ?? null;
  });
  // A change of leader belongs where the last one was: it may hand over to a replica that comes late.
  const last = net.at(-1);
  const end = places.at(-1);
  if (last?.move.kind === 'change-leader' && end !== undefined) {
    moves[places[net.length - 1] ?? end] = null;
    moves[end] = last;
  }
}

function netMoves(draft: Draft, before: readonly StagedMove[], copies: readonly StagedMove[]): StagedMove[] {
  const [first] = before;
  const partition = first && partitionOf(draft.view, first.move.tid, first.move.pid);
  if (!partition) return [];
  const p = draft.partitions.numberOf(partition);
  const started = partition.replicas.map((r) => draft.nodes.number(r.node));
  const gone = started.filter((n) => !draft.replicas.holds(n, p));
  const made = draft.replicas.holdersOf(p).filter((n) => !started.includes(n));
  const leaderAtEnd = draft.leaders.of[p] ?? -1;
  let leader = draft.nodes.number(partition.leader);
  const { tid, pid } = partition;
  const net: StagedMove[] = [];
  for (const to of made.sort((a, b) => a - b)) {
    const { stage, move } = copies[net.length] ?? first;
    const common = { tid, pid, to: draft.nodes.id(to), bytes: draft.partitions.size[p] ?? 0, reason: move.reason };
    // The leader's successor comes from the leader's node; others replace what is nearest, which keeps the
    // spread on the way.
    const preferred = to === leaderAtEnd && gone.includes(leader) ? leader : nearest(draft, gone, to, leader);
    if (preferred < 0) net.push({ stage, move: { kind: 'add-replica', ...common } });
    else net.push({ stage, move: { kind: 'move-replica', from: draft.nodes.id(preferred), ...common } });
    if (preferred >= 0) gone.splice(gone.indexOf(preferred), 1);
    if (preferred === leader) leader = to;
  }
  if (leader !== leaderAtEnd) {
    const last = before.findLast(({ move }) => move.kind === 'change-leader') ?? first;
    const ends = { from: draft.nodes.id(leader), to: draft.nodes.id(leaderAtEnd) };
    const move: Move = { kind: 'change-leader', tid, pid, ...ends, bytes: 0, reason: last.move.reason };
    net.push({ stage: last.stage, move });
  }
  return net;
}

function nearest(draft: Draft, gone: readonly number[], to: number, leader: number): number {
  const rank = (n: number) => draft.nodes.localities.nearness(n, to) - (n === leader ? 0.5 : 0);
  return gone.reduce((best, n) => (best < 0 || rank(n) > rank(best) ? n : best), -1);
}

/** Whether every move, in this order, finds its replica, a target without one, and room for it. */
function isSafe(draft: Draft, load: LoadView, moves: readonly StagedMove[]): boolean {
  const holders = new Map<string, Set<NodeId>>();
  const room = new Map<NodeId, number>();
  const roomAt = (id: NodeId) => room.get(id) ?? roomOf(draft.view, load, id);
  for (const { move } of moves) {
    const key = partitionKey(move.tid, move.pid);
    const held = holders.get(key) ?? new Set(partitionOf(draft.view, move.tid, move.pid)?.replicas.map((r) => r.node));
    holders.set(key, held);
    const bytes = load.partitionBytes.get(key) ?? 0;
    if (move.kind === 'add-replica' || move.kind === 'move-replica') {
      if (held.has(move.to) || (bytes > 0 && roomAt(move.to) < bytes)) return false;
      held.add(move.to);
      room.set(move.to, roomAt(move.to) - bytes);
    }
    if (move.kind === 'remove-replica' || move.kind === 'move-replica') {
      if (!held.delete(move.from)) return false;
      room.set(move.from, roomAt(move.from) + bytes);
    }
  }
  return true;
}
