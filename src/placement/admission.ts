import type { ClusterView, LoadView, NodeId } from '../catalog/model.ts';
import { partitionKey } from '../catalog/view.ts';
import type { StagedMove } from './draft.ts';
import type { Move } from './moves.ts';
import { roomOf } from './room.ts';

export interface Admission {
  readonly start: readonly Move[];
  readonly waiting: readonly { readonly move: Move; readonly because: string }[];
}

/** Which of the planned moves may start beside the running ones, and what each of the others waits for. */
export function admit(
  view: ClusterView,
  load: LoadView,
  planned: readonly StagedMove[],
  running: readonly Move[],
): Admission {
  const limit = view.settings['move.concurrency'];
  const limitPerNode = view.settings['move.concurrency_per_node'];
  const start: Move[] = [];
  const waiting: { move: Move; because: string }[] = [];
  const atNode = new Map<NodeId, number>();
  const arriving = new Map<NodeId, number>();
  const taken = new Set<string>();
  let replicasOnTheWay = false;
  for (const move of running) {
    touch(atNode, move);
    replicasOnTheWay ||= move.kind !== 'change-leader';
  }

  const obstacle = (stage: StagedMove['stage'], move: Move): string | null => {
    if (taken.has(partitionKey(move.tid, move.pid))) return 'an earlier move of the same partition';
    // Leaders are evened out for where the replicas will be; changing them sooner would pause writers twice.
    if (stage === 'lead' && replicasOnTheWay) return 'leaders are evened out when all replicas are in place';
    if (running.length + start.length >= limit) return `the limit move.concurrency (${limit}) is reached`;
    const busy = nodesOf(move).find((n) => (atNode.get(n) ?? 0) >= limitPerNode);
    if (busy !== undefined) return `the limit move.concurrency_per_node (${limitPerNode}) is reached on node ${busy}`;
    return shortage(view, load, move, arriving);
  };

  for (const { stage, move } of planned) {
    const because = obstacle(stage, move);
    taken.add(partitionKey(move.tid, move.pid));
    replicasOnTheWay ||= stage !== 'lead' && move.kind !== 'change-leader';
    if (because !== null) {
      waiting.push({ move, because });
      continue;
    }
    start.push(move);
    touch(atNode, move);
    if ('to' in move) arriving.set(move.to, (arriving.get(move.to) ?? 0) + move.bytes);
  }
  return { start, waiting };
}

function nodesOf(move: Move): NodeId[] {
  const from = 'from' in move ? [move.from] : [];
  return 'to' in move ? [...from, move.to] : from;
}

function touch(atNode: Map<NodeId, number>, move: Move): void {
  for (const n of nodesOf(move)) atNode.set(n, (atNode.get(n) ?? 0) + 1);
}

/** The plan counts on room that its earlier moves will free; a move starts only when the room is there. */
function shortage(view: ClusterView, load: LoadView, move: Move, arriving: Map<NodeId, number>): string | null {
  if (!('to' in move) || move.bytes === 0 || move.kind === 'resync-replica') return null;
  const room = roomOf(view, load, move.to) - (arriving.get(move.to) ?? 0);
  if (move.bytes <= room) return null;
  return `disk of node ${move.to}: ${move.bytes} bytes needed, ${Math.max(0, Math.floor(room))} there above the margin`;
}
