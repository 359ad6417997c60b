import type { NodeId } from '../../catalog/model.ts';
import { partitionTable } from '../../catalog/names.ts';
import { allPartitions, connectedNodes, isOut, partitionOf } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import type { WaitReason } from '../../core/wait-reason.ts';
import type { HingeData } from '../data.ts';
import type { StepContext, StepResult } from '../operation.ts';
import type { PartitionRef } from '../ports.ts';
import { waitFor } from '../waiting.ts';
import { backOff, budgetAt, oldHolder } from './patience.ts';

/**
 * Points the hinges of the other live nodes past nodes that are about to be away, wherever they do not lead:
 * null when none leads there, else what has to be waited for. A transaction that has gone through such a
 * hinge holds its lock: when this is through, none depends on them.
 */
export async function pointPast(
  c: StepContext<unknown, HingeData>,
  leaving: readonly NodeId[],
): Promise<StepResult | null> {
  const staying = connectedNodes(c.view).filter((n) => !leaving.includes(n.id) && n.state !== 'joining');
  for (const { id } of staying.filter((n) => c.alive(n.id))) {
    const hinges = await c.plane.hinges.readAll(id);
    for (const { table, partition } of allPartitions(c.view)) {
      const target = hinges.get(partitionTable(partition.tid, partition.pid));
      const { leader } = partition;
      if (target?.kind !== 'node' || !leaving.includes(target.node) || leaving.includes(leader)) continue;
      // A failover has made it lead, and turns its hinge.
      if (leader === id) continue;
      const place = { step: 'point-past', node: id, tid: partition.tid, pid: partition.pid };
      const late = await oldHolder(c, place, `a hinge that leads to node ${target.node} is in use`);
      if (late) return late;
      const to = { kind: 'node', node: leader } as const;
      const attempt = await c.plane.hinges.point(id, table, partition.pid, to, budgetAt(c, place));
      if (attempt.outcome !== 'done') return backOff(c, place, 'lock');
    }
  }
  return null;
}

/**
 * Points a hinge that leads to rows on a node which is out to where the partition is led now: null, or what
 * has to be waited for. Not before the leader's own hinge is turned, which may still lead here.
 */
export async function pointPastDead(
  c: StepContext<unknown>,
  at: NodeId,
  ref: PartitionRef,
): Promise<WaitReason | null> {
  const table = must(c.view.tables.get(ref.tid), `table ${ref.tid}`);
  const { leader } = must(partitionOf(c.view, ref.tid, ref.pid), `partition ${ref.pid}`);
  // One that is out turns its own before anybody reaches it.
  if (!isOut(c.view, leader) && (await c.plane.hinges.read(leader, ref))?.kind !== 'local')
    return waitFor('lock', `node ${leader}, which is to lead, has not opened yet`, leader);
  const to = { kind: 'node', node: leader } as const;
  // Who goes through it waits for a node that is out.
  const attempt = await c.plane.hinges.point(at, table, ref.pid, to, c.view.settings['move.max_pause'], 'are-ended');
  if (attempt.outcome === 'done') return null;
  await c.plane.sessions.endHolders(at, ref);
  return waitFor('lock', `a hinge on node ${at} that leads to a node that is out is in use`, at);
}

/**
 * Nodes in service whose hinges of the partition may lead straight to the rows on `node`, by a change of
 * leader that has not ended.
 */
export function forwardersTo(c: StepContext<unknown>, node: NodeId, { tid, pid }: PartitionRef): NodeId[] {
  return c
    .running()
    .filter((r) => r.input.to === node && r.input.tid === tid && r.input.pid === pid && r.began === 'swing')
    .flatMap(({ data: { source } }) => (source === undefined || isOut(c.view, source) ? [] : [source]));
}
