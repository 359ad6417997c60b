import { holdersOf, pairsOf, replicasOf } from '../../catalog/holders.ts';
import type { NodeId } from '../../catalog/model.ts';
import { must } from '../../core/assert.ts';
import { DONE, nothingToUndo, operationKind, partitionLock, type Step, type StepContext } from '../operation.ts';
import { dropParents } from '../steps/parents.ts';
import { awaitArrivals, disconnectIdlePairs, stopStream } from '../steps/partition.ts';

/** Dropping a distributed table: what users see goes first, then its streams, then the rows. */

interface DropInput {
  tid: number;
  name: string;
  partitions: number;
}

interface DropData {
  /** That held replicas of it. */
  nodes?: readonly NodeId[];
}

const dropping = (c: StepContext<DropInput>) => c.view.tables.get(c.input.tid);

const closeTable: Step<DropInput, DropData> = {
  name: 'close-table',
  noReturn: true,
  done: async (c) => dropping(c)?.state !== 'ready',
  run: async (c) => {
    await c.commit({ kind: 'table-state', tid: c.input.tid, state: 'dropping' });
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

const dropEverywhere: Step<DropInput, DropData> = {
  name: 'drop-everywhere',
  done: async (c) => dropping(c) === undefined,
  run: async (c) => {
    const table = must(dropping(c), `table ${c.input.tid}`);
    await dropParents(c, table);
    for (const { from, to, refs } of pairsOf(c.view, table)) {
      for (const ref of refs) await stopStream(c, from, to, ref);
      const late = await awaitArrivals(c, to, [from]);
      if (late) return late;
    }
    for (const { node, pid } of replicasOf(c.view, table)) await c.plane.replicas.drop(node, { tid: table.tid, pid });
    await c.remember({ nodes: holdersOf(c.view, table) });
    await c.commit({ kind: 'table-removed', tid: table.tid });
    await c.event('table-dropped', c.input.name);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

const disconnectNodes: Step<DropInput, DropData> = {
  name: 'disconnect-nodes',
  done: async () => false,
  run: async (c) => {
    for (const node of c.data.nodes ?? []) await disconnectIdlePairs(c, node);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

export const dropTable = operationKind<DropInput, DropData>({
  kind: 'drop-table',
  subject: (input) => input.name,
  locks: (input) => ['schema', ...Array.from({ length: input.partitions }, (_, pid) => partitionLock(input.tid, pid))],
  movesOn: () => [],
  steps: [closeTable, dropEverywhere, disconnectNodes],
});
