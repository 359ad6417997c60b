import { servedOn } from '../../catalog/holders.ts';
import type { NodeId, Partition, TableRecord } from '../../catalog/model.ts';
import { partitionTable } from '../../catalog/names.ts';
import {
  allPartitions,
  connectedNodes,
  hasLeft,
  isGone,
  partitionKey,
  partitionOf,
  replicaOn,
} from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import {
  again,
  DONE,
  nothingToUndo,
  operationKind,
  outageLock,
  type Step,
  type StepContext,
  type StepResult,
} from '../operation.ts';
import type { PartitionRef } from '../ports.ts';
import { closeStreams, type GiveUpInput, giveUpReplicas } from '../steps/give-up.ts';
import { waitFor } from '../waiting.ts';

interface DropInput extends GiveUpInput {
  /** Partitions whose last copy is on the node and is given up, as partitionKey: they begin anew, empty. */
  lost: string[];
}

interface DropData {
  /** Where each lost partition begins anew. */
  refilled?: readonly Place[];
  /** All of them have. */
  opened?: true;
}

type Place = PartitionRef & { on: NodeId };

/** Partitions that are lost begin anew on the living member that holds least. */
const refillLost: Step<DropInput, DropData> = {
  name: 'refill-lost',
  noReturn: true,
  done: async (c) => c.data.opened === true,
  run: async (c) => {
    for (const { on, ...ref } of await placesFor(c)) {
      // It leads there already: what is out now is failed over or dropped like any other.
      if (isGone(c.view, on)) continue;
      const table = must(c.view.tables.get(ref.tid), `table ${ref.tid}`);
      const partition = must(table.partitions[ref.pid], `partition ${ref.pid}`);
      await c.claim({ kind: 'replica-table', node: on, name: partitionTable(ref.tid, ref.pid) });
      await c.plane.replicas.create(on, table, ref.pid);
      if (partition.leader === c.input.node) {
        await c.commit(
          { kind: 'replica-added', ...ref, node: on, state: 'ready' },
          { kind: 'leader-changed', ...ref, leader: on },
          { kind: 'replica-removed', ...ref, node: c.input.node },
        );
        await c.event('data-lost', `${partitionKey(ref.tid, ref.pid)} begins anew, empty, on node ${on}`, on);
      }
      await c.plane.replicas.setGuard(on, ref, false);
      const attempt = await c.plane.hinges.point(
        on,
        table,
        ref.pid,
        { kind: 'local' },
        c.view.settings['move.max_pause'],
      );
      if (attempt.outcome !== 'done') {
        await c.plane.sessions.endHolders(on, ref);
        return again(50, waitFor('lock', `the hinge of ${partitionKey(ref.tid, ref.pid)} is in use`, on));
      }
    }
    await c.remember({ opened: true });
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

/**
 * Where each lost partition begins anew. A node that has gone before it was entered as the leader is replaced
 * by another.
 */
async function placesFor(c: StepContext<DropInput, DropData>): Promise<Place[]> {
  const refilled = (c.data.refilled ?? lostHere(c).map((p) => refill(c, p))).map((place) => {
    const partition = must(partitionOf(c.view, place.tid, place.pid), `partition ${place.pid}`);
    return isGone(c.view, place.on) && partition.leader === c.input.node ? refill(c, partition) : place;
  });
  await c.remember({ refilled });
  return refilled;
}

const lostHere = (c: StepContext<DropInput, DropData>) =>
  servedOn(c.view, c.input.node).filter((p) => c.input.lost.includes(partitionKey(p.tid, p.pid)));

function refill(c: StepContext<DropInput, DropData>, { tid, pid }: Partition): Place {
  const able = connectedNodes(c.view)
    .filter((n) => n.state === 'active' && n.id !== c.input.node && c.alive(n.id))
    .sort((a, b) => servedOn(c.view, a.id).length - servedOn(c.view, b.id).length || a.id - b.id);
  return { tid, pid, on: must(able[0], 'a live member').id };
}

/**
 * Tables that are being made on the node cannot be: null once they are being taken back, and lead nobody
 * there any more.
 */
async function endTables(c: StepContext<DropInput, DropData>): Promise<StepResult | null> {
  const { node } = c.input;
  const making = c.running().filter((r) => {
    const { partitions } = (r.input.table ?? { partitions: [] }) as Pick<TableRecord, 'partitions'>;
    return r.kind === 'create-table' && r.status !== 'undoing' && partitions.some((p) => replicaOn(p, node));
  });
  for (const { id } of making) await c.cancel(id);
  const [first] = making;
  return first
    ? again(100, waitFor('lock', `operation ${first.id} (create-table ${first.subject}) is cancelled`))
    : null;
}

const forgetNode: Step<DropInput, DropData> = {
  name: 'forget-node',
  done: async (c) => hasLeft(c.view, c.input.node),
  run: async (c) => {
    const { node } = c.input;
    const late = await endTables(c);
    if (late) return late;
    for (const other of connectedNodes(c.view).filter((n) => n.id !== node && c.alive(n.id))) {
      for (const { table, partition } of allPartitions(c.view)) {
        const target = await c.plane.hinges.read(other.id, partition);
        if (target?.kind !== 'node' || target.node !== node || partition.leader === other.id) continue;
        const to = { kind: 'node', node: partition.leader } as const;
        const attempt = await c.plane.hinges.point(
          other.id,
          table,
          partition.pid,
          to,
          c.view.settings['move.max_pause'],
        );
        if (attempt.outcome === 'done') continue;
        await c.plane.sessions.endHolders(other.id, partition);
        return again(
          100,
          waitFor('lock', `a hinge on node ${other.id} that leads to the dropped node is in use`, other.id),
        );
      }
      // A table that is being dropped has its streams still, and no part of it will be asked of the node
      // again.
      await c.plane.streams.disconnect(node, other.id, node);
      await c.plane.streams.disconnect(other.id, node, node);
      await c.plane.hinges.dropForeignServer(other.id, node);
    }
    await c.commit({ kind: 'node-changed', id: node, change: { state: 'decommissioned' } });
    await c.event('node-dropped', `node ${node} is gone for good`, node);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

/** A node that is down is forgotten for good, with what nobody else has. */
export const dropNode = operationKind<DropInput, DropData>({
  kind: 'drop-node',
  subject: (input) => `node ${input.node}`,
  locks: (input) => [outageLock(input.node), `node:${input.node}`],
  movesOn: () => [],
  steps: [giveUpReplicas, refillLost, closeStreams, forgetNode],
});
