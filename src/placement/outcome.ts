import type { ClusterView, LoadView, Partition, TableRecord } from '../catalog/model.ts';
import type { Move } from './moves.ts';

/** A partition as it is when `move` has ended. */
function outcomeOf(partition: Partition, move: Move): Partition {
  if (move.kind === 'change-leader') return { ...partition, leader: move.to };
  const gone = move.kind === 'move-replica' || move.kind === 'remove-replica' ? move.from : null;
  const made = move.kind === 'remove-replica' ? null : move.to;
  const rest = partition.replicas.filter((r) => r.node !== gone && r.node !== made);
  const replicas = made === null ? rest : [...rest, { node: made, state: 'ready' as const }];
  const leader = made !== null && partition.leader === gone ? made : partition.leader;
  return { ...partition, leader, replicas: replicas.sort((a, b) => a.node - b.node) };
}

/** The view in which all of `moves` have ended. */
export function viewAfter(view: ClusterView, moves: readonly Move[]): ClusterView {
  const changed = new Map<number, Partition[]>();
  for (const move of moves) {
    const table = view.tables.get(move.tid);
    const partitions = changed.get(move.tid) ?? (table ? [...table.partitions] : []);
    const partition = partitions[move.pid];
    // To a node that was dropped meanwhile nothing comes any more, and it only ends.
    const isInVain = 'to' in move && view.nodes.get(move.to)?.state === 'decommissioned';
    if (!partition || isInVain) continue;
    partitions[move.pid] = outcomeOf(partition, move);
    changed.set(move.tid, partitions);
  }
  const tables = new Map<number, TableRecord>();
  for (const [tid, table] of view.tables) {
    const partitions = changed.get(tid);
    tables.set(tid, partitions ? { ...table, partitions } : table);
  }
  return { ...view, tables };
}

/**
 * The load while `moves` run, at its worst: what they copy is already on the target's disk, what they will
 * free is not free yet. Bytes that have arrived are counted twice until the move ends, which errs on the side
 * of an emptier disk.
 */
export function loadDuring(load: LoadView, moves: readonly Move[]): LoadView {
  const nodes = new Map(load.nodes);
  for (const move of moves) {
    if (move.bytes === 0 || !('to' in move)) continue;
    const node = nodes.get(move.to);
    if (node) nodes.set(move.to, { ...node, diskFreeBytes: node.diskFreeBytes - move.bytes });
  }
  return { ...load, nodes };
}
