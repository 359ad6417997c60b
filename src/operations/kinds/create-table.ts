import { holdersOf, pairsOf, replicasOf } from '../../catalog/holders.ts';
import type { ClusterView, NodeId, TableRecord } from '../../catalog/model.ts';
import { partitionTable } from '../../catalog/names.ts';
import { connectedNodes, tableName } from '../../catalog/view.ts';
import { type TideError, tideError } from '../../core/errors.ts';
import type { QuorumData } from '../data.ts';
import {
  again,
  type Claim,
  DONE,
  nothingToUndo,
  operationKind,
  type Step,
  type StepContext,
  type StepResult,
} from '../operation.ts';
import { dropParents } from '../steps/parents.ts';
import { awaitArrivals, connectStream, disconnectIdlePairs, stopStream } from '../steps/partition.ts';
import { demandQuorum } from '../steps/protect.ts';
import { waitFor } from '../waiting.ts';

/** Making a distributed table: its rows' tables and their streams come first, what users see last. */

interface CreateInput {
  table: TableRecord;
}

const recordOf = (c: StepContext<CreateInput, QuorumData>) => c.view.tables.get(c.input.table.tid);

/**
 * What was asked for at once did not see each other, and a node may have left: the one whose turn comes later
 * does.
 */
function refuseTable({ table }: CreateInput, view: ClusterView): TideError | undefined {
  const here = new Set(connectedNodes(view).map((n) => n.id));
  const gone = table.partitions.flatMap((p) => p.replicas.map((r) => r.node)).find((node) => !here.has(node));
  if (gone !== undefined) return tideError('NODE_DECOMMISSIONED', { node: gone });
  const known = [...view.tables.values()].find((t) => t.schema === table.schema && t.name === table.name);
  if (!known || known.tid === table.tid) return undefined;
  return tideError('TABLE_EXISTS', { why: `table ${tableName(known)} exists and is ${known.state}` });
}

const registerTable: Step<CreateInput, QuorumData> = {
  name: 'register-table',
  done: async (c) => recordOf(c) !== undefined,
  run: async (c) => {
    await c.commit({ kind: 'table-added', table: c.input.table });
    return DONE;
  },
  undo: async (c) => {
    if (recordOf(c)) await c.commit({ kind: 'table-removed', tid: c.input.table.tid });
    for (const node of holdersOf(c.view, c.input.table)) await disconnectIdlePairs(c, node);
    return DONE;
  },
};

const createReplicas: Step<CreateInput, QuorumData> = {
  name: 'create-replicas',
  done: async (c) => recordOf(c)?.state === 'ready',
  run: async (c) => {
    const { table } = c.input;
    await c.claim(
      ...replicasOf(c.view, table).map(
        ({ node, pid }): Claim => ({ kind: 'replica-table', node, name: partitionTable(table.tid, pid) }),
      ),
    );
    const onNode = (node: NodeId) => replicasOf(c.view, table).filter((r) => r.node === node);
    await eachAtOnce(holdersOf(c.view, table), async (node) => {
      for (const { pid } of onNode(node)) await c.plane.replicas.create(node, table, pid);
    });
    return DONE;
  },
  undo: async (c) => {
    for (const { node, pid } of replicasOf(c.view, c.input.table)) {
      await c.plane.replicas.drop(node, { tid: c.input.table.tid, pid });
    }
    return DONE;
  },
};

const startStreams: Step<CreateInput, QuorumData> = {
  name: 'start-streams',
  done: async (c) => recordOf(c)?.state === 'ready',
  run: async (c) => {
    const broken = await eachAtOnce(pairsOf(c.view, c.input.table), async ({ from, to, refs }) => {
      const late = await connectStream(c, from, to);
      if (late === null) await c.plane.streams.start(from, to, refs, false);
      return late;
    });
    return broken.find((late) => late !== null) ?? DONE;
  },
  undo: async (c) => {
    for (const { from, to, refs } of pairsOf(c.view, c.input.table)) {
      if (!(await c.plane.streams.exists(from, to))) {
        for (const ref of refs) await c.plane.streams.stopSending(from, to, ref);
        continue;
      }
      for (const ref of refs) await stopStream(c, from, to, ref);
      const late = await awaitArrivals(c, to, [from]);
      if (late) return late;
    }
    return DONE;
  },
};

/** The first row that somebody writes is already one that a follower has to have. */
const protectLeaders: Step<CreateInput, QuorumData> = {
  name: 'protect-leaders',
  done: async (c) => recordOf(c)?.state === 'ready',
  run: async (c) => {
    const { tid, partitions } = c.input.table;
    for (const { from, to } of pairsOf(c.view, c.input.table)) {
      // Tables that are there already would wait for a follower that does not listen yet.
      if (!partitions.some((p) => p.leader === from) || !c.alive(to)) continue;
      const late = await awaitArrivals(c, to, [from]);
      if (late) return late;
    }
    const leaders = [...new Set(partitions.map((p) => p.leader))];
    await demandQuorum(c, ...leaders.map((node) => ({ node, tid, pid: null })));
    return DONE;
  },
  undo: nothingToUndo('a table that is gone from the catalog is demanded by nobody'),
};

const createParents: Step<CreateInput, QuorumData> = {
  name: 'create-parents',
  done: async (c) => recordOf(c)?.state === 'ready',
  run: async (c) => {
    // One that joins gets its tables when its turn comes.
    const nodes = connectedNodes(c.view).filter((n) => c.alive(n.id) && n.state !== 'joining');
    await c.claim(...nodes.map((n): Claim => ({ kind: 'parent', node: n.id, name: tableName(c.input.table) })));
    for (const node of nodes) await c.plane.parents.create(node.id, c.input.table);
    return DONE;
  },
  undo: async (c) => {
    await dropParents(c, c.input.table);
    return DONE;
  },
};

/**
 * A node may have died and come back since its part was made: its streams were cut then, and no failover or
 * return sees to a table that is not open. Null where all that the table needs is there now.
 */
async function standsEverywhere(c: StepContext<CreateInput, QuorumData>): Promise<StepResult | null> {
  const holders = c.input.table.partitions.flatMap((p) => p.replicas.map((r) => r.node));
  const away = holders.find((node) => !c.alive(node));
  if (away !== undefined) return again(200, waitFor('node', `node ${away}, which is to hold a replica, is away`, away));
  await startStreams.run(c);
  await createParents.run(c);
  return null;
}

const openTable: Step<CreateInput, QuorumData> = {
  name: 'open-table',
  noReturn: true,
  done: async (c) => recordOf(c)?.state === 'ready',
  run: async (c) => {
    const late = await standsEverywhere(c);
    if (late) return late;
    await c.commit({ kind: 'table-state', tid: c.input.table.tid, state: 'ready' });
    await c.event('table-created', `${tableName(c.input.table)}: ${c.input.table.partitionCount} partitions`);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

async function eachAtOnce<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results = await Promise.allSettled(items.map(work));
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

export const createTable = operationKind<CreateInput, QuorumData>({
  kind: 'create-table',
  refuse: refuseTable,
  subject: (input) => tableName(input.table),
  locks: () => ['schema'],
  movesOn: () => [],
  steps: [registerTable, createReplicas, startStreams, protectLeaders, createParents, openTable],
});
