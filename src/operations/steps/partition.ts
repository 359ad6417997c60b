import { haveInCommon } from '../../catalog/holders.ts';
import type { NodeId, Partition, TableRecord } from '../../catalog/model.ts';
import { connectedNodes, fedThrough, isGone, isOut, partitionOf, replicaOn, servedBy } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import { tideError } from '../../core/errors.ts';
import { again, type OperationRecord, type StepContext, type StepResult } from '../operation.ts';
import type { PartitionRef } from '../ports.ts';
import { waitFor } from '../waiting.ts';

/** Look-ups that steps share. */

export function tableOf(c: StepContext<PartitionRef>): TableRecord {
  return must(c.view.tables.get(c.input.tid), `table ${c.input.tid}`);
}

export function partitionNow(c: StepContext<PartitionRef>): Partition {
  return must(partitionOf(c.view, c.input.tid, c.input.pid), `partition ${c.input.tid}/${c.input.pid}`);
}

export function refOf(c: StepContext<PartitionRef>): PartitionRef {
  return { tid: c.input.tid, pid: c.input.pid };
}

/**
 * The node's followers are being compared by how far they have come in its streams: it is not said to be out
 * yet.
 */
export function failoverOf(c: StepContext<unknown>, node: NodeId): OperationRecord | undefined {
  if (isOut(c.view, node)) return undefined;
  return c.running().find((r) => r.kind === 'failover' && r.input.node === node && r.status === 'running');
}

/**
 * Takes a partition out of the stream between two nodes. Throws BUSY while the sender is being failed over: a
 * stream that was cut for that would be dropped, and with it how far it had come.
 */
export async function stopStream(c: StepContext<unknown>, from: NodeId, to: NodeId, ref: PartitionRef): Promise<void> {
  const failover = failoverOf(c, from);
  if (failover) throw tideError('BUSY', { what: `node ${from}`, operation: failover.id });
  await c.plane.streams.stop(from, to, ref);
}

/**
 * Takes the partition out of the stream between two nodes. Nobody asks a node that is out: as a receiver it
 * is sent nothing more, and what it would have sent goes with its slots before it serves again.
 */
export async function endStream(c: StepContext<PartitionRef>, from: NodeId, to: NodeId): Promise<void> {
  if (isOut(c.view, from)) return;
  const leads = partitionNow(c).leader === to && !isOut(c.view, to);
  if (c.alive(to) || leads) await stopStream(c, from, to, refOf(c));
  else await c.plane.streams.stopSending(from, to, refOf(c));
}

const ARRIVAL_MS = 2_000;

/**
 * Nodes whose rows of the partition may still be on their way: all that answer, and the leader in any case. A
 * follower that is away has none: what it wrote when it led had arrived before another led. What a node that
 * is out has not sent is never sent.
 */
export function sendersTo(c: StepContext<PartitionRef>, to: NodeId): NodeId[] {
  const { leader, replicas } = partitionNow(c);
  const unsent = (n: NodeId) => c.alive(n) || (n === leader && !isOut(c.view, n));
  return replicas.map((r) => r.node).filter((n) => n !== to && unsent(n));
}

/**
 * Asked before rows are dropped on `to`: null once everything that `senders` wrote has arrived there, else
 * what to wait for. A row still on its way to a table that is gone stops the apply worker for good ("logical
 * replication target relation … does not exist"), and with it the rows of every other partition in that
 * stream. It may wait on the disk of a sender that is away, and comes when that one is back.
 */
export async function awaitArrivals(
  c: StepContext<unknown>,
  to: NodeId,
  senders: readonly NodeId[],
): Promise<StepResult | null> {
  for (const from of senders) {
    if (from === to || !(await c.plane.streams.exists(from, to))) continue;
    if (!c.alive(from)) {
      const text = `node ${from} is away, and rows that it wrote may still have to come to node ${to}`;
      return again(500, waitFor('node', text, from));
    }
    const marker = await c.plane.markers.write(from);
    if (await c.plane.markers.arrives(to, from, marker, ARRIVAL_MS)) continue;
    // Its slot went while the receiver was out: nothing comes from there any more.
    if (!(await c.plane.streams.isWhole(from, to))) continue;
    return again(200, waitFor('lag', `rows that node ${from} wrote are still on their way to node ${to}`, to));
  }
  return null;
}

/**
 * Null once `from` sends to `to`, or what has to be waited for: replicas that a broken stream has fed count
 * no more before it is made anew.
 */
export async function connectStream(c: StepContext<unknown>, from: NodeId, to: NodeId): Promise<StepResult | null> {
  if (await c.plane.streams.connect(from, to, () => fedThrough(c.view, from, to).length > 0)) return null;
  const text = `the stream from node ${from} to node ${to} is broken, and what it fed is given up first`;
  return again(500, waitFor('node', text, to));
}

/**
 * Ends what `to` receives from those of the senders that are out: a table that is half copied cannot be
 * dropped, and only its sender could take it out of the stream. Null, or what has to be waited for: how far
 * `to` has come in such a stream decides who leads what it follows there.
 */
export async function endOutStreams(
  c: StepContext<unknown>,
  senders: readonly NodeId[],
  to: NodeId,
): Promise<StepResult | null> {
  for (const id of senders.filter((n) => n !== to && isOut(c.view, n))) {
    if (!servedBy(c.view, id).some((p) => replicaOn(p, to)?.state === 'ready'))
      await c.plane.streams.disconnect(id, to, id);
    else return again(200, waitFor('node', `node ${id} is out, and node ${to} may be who leads in its place`, id));
  }
  return null;
}

/**
 * Takes away the streams between a node and every node it shares no partition with any more; of a node that
 * is out or has left, the other's side. The catalog is asked and the stream's lock is queued for in the same
 * moment, so that an operation which claims a replica there meanwhile connects after this has disconnected.
 * Before, neither of the two waits for the other's flushes any more.
 */
export async function disconnectIdlePairs(c: StepContext<unknown>, node: NodeId): Promise<void> {
  for (const other of connectedNodes(c.view)) {
    if (other.id === node || haveInCommon(c.view, node, other.id)) continue;
    const gone = [node, other.id].filter((n) => isGone(c.view, n));
    if (gone.length === 2 || (gone.length === 0 && !c.alive(other.id))) continue;
    for (const side of [node, other.id].filter((n) => c.alive(n) && !gone.includes(n))) await c.settleQuorum(side);
    if (haveInCommon(c.view, node, other.id)) continue;
    await Promise.all([
      c.plane.streams.disconnect(node, other.id, gone[0]),
      c.plane.streams.disconnect(other.id, node, gone[0]),
    ]);
  }
}
