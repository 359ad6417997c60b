import type { NodeId, Partition, TableRecord } from '../../catalog/model.ts';
import { allPartitions, connectedNodes, partitionOf, replicaOn } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import { again, type StepContext, type StepResult } from '../operation.ts';
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

/** Nodes whose replica is in step with the leader, the leader included. */
export function readyNodes(partition: Partition): NodeId[] {
  return partition.replicas.filter((r) => r.state === 'ready').map((r) => r.node);
}

const ARRIVAL_MS = 2_000;

/**
 * Nodes whose rows of the partition may still be on their way: all that answer, and the leader in any case. A follower that is away has
 * none: what it wrote when it led had arrived before another led.
 */
export function sendersTo(c: StepContext<PartitionRef>, to: NodeId): NodeId[] {
  const { leader, replicas } = partitionNow(c);
  return replicas.map((r) => r.node).filter((n) => n !== to && (n === leader || c.alive(n)));
}

/**
 * Asked before rows are dropped on `to`: null once everything that `senders` wrote has arrived there, else what to wait for. A row still on
 * its way to a table that is gone stops the apply worker for good ("logical replication target relation … does not exist"), and with it
 * the rows of every other partition in that stream. It may wait on the disk of a sender that is away, and comes when that one is back.
 */
export async function awaitArrivals(
  c: StepContext<unknown>,
  to: NodeId,
  senders: readonly NodeId[],
): Promise<StepResult | null> {
  for (const from of senders) {
    if (from === to || !(await c.plane.hasStream(from, to))) continue;
    if (!c.alive(from)) {
      const text = `node ${from} is away, and rows that it wrote may still have to come to node ${to}`;
      return again(500, waitFor('node', text, from));
    }
    const marker = await c.plane.writeMarker(from);
    if (await c.plane.awaitMarker(to, from, marker, ARRIVAL_MS)) continue;
    return again(200, waitFor('lag', `rows that node ${from} wrote are still on their way to node ${to}`, to));
  }
  return null;
}

/**
 * Takes away the streams between a node and every node it shares no partition with any more. The catalog is asked and the stream's lock is
 * queued for in the same moment, so that an operation which claims a replica there meanwhile connects after this has disconnected. Before,
 * neither of the two waits for the other's flushes any more.
 */
export async function disconnectIdlePairs(c: StepContext<unknown>, node: NodeId): Promise<void> {
  for (const other of connectedNodes(c.view)) {
    if (other.id === node || !c.alive(other.id) || pairNeeded(c, node, other.id)) continue;
    for (const side of [node, other.id]) if (c.alive(side)) await c.settleQuorum(side);
    if (pairNeeded(c, node, other.id)) continue;
    await Promise.all([c.plane.disconnectPair(node, other.id), c.plane.disconnectPair(other.id, node)]);
  }
}

function pairNeeded(c: StepContext<unknown>, a: NodeId, b: NodeId): boolean {
  for (const { partition } of allPartitions(c.view)) {
    if (replicaOn(partition, a) && replicaOn(partition, b)) return true;
  }
  return false;
}
