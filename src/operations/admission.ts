import type { ClusterView } from '../catalog/model.ts';
import type { WaitReason } from '../core/wait-reason.ts';
import type { OperationKind, OperationRecord } from './operation.ts';
import { waitFor } from './waiting.ts';

/**
 * Why a queued operation cannot start yet: an older one holds one of its locks, or there are enough moves, in
 * the cluster or at a node.
 */
export function obstacleTo(
  record: OperationRecord,
  unended: readonly OperationRecord[],
  kindOf: (record: OperationRecord) => OperationKind<unknown>,
  { settings }: Pick<ClusterView, 'settings'>,
): WaitReason | null {
  const kind = kindOf(record);
  const others = unended.filter((r) => r.id !== record.id);
  const locks = kind.locks(record.input);
  const holder = others.find(
    (r) =>
      r.id < record.id &&
      kindOf(r)
        .locks(r.input)
        .some((l) => locks.includes(l)),
  );
  if (holder) return waitFor('lock', `operation ${holder.id} (${holder.kind} ${holder.subject}) goes first`);
  const active = others.filter((r) => r.status !== 'queued');
  // Those who plan look at the same moment, and each would take the last place.
  const atOnce = settings['move.concurrency'];
  if (record.parent !== null && active.filter((r) => r.parent !== null).length >= atOnce)
    return waitFor('limit', `${atOnce} planned moves are under way (move.concurrency)`);
  const limit = settings['move.concurrency_per_node'];
  for (const node of kind.movesOn(record.input)) {
    const busy = active.filter((r) => kindOf(r).movesOn(r.input).includes(node)).length;
    const text = `node ${node} has ${busy} moves under way (move.concurrency_per_node is ${limit})`;
    if (busy >= limit) return waitFor('limit', text, node);
  }
  return null;
}
