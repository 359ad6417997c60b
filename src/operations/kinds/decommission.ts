import type { NodeId } from '../../catalog/model.ts';
import { allPartitions, connectedNodes, hasLeft, isOut, replicaOn } from '../../catalog/view.ts';
import { describeLocalData } from '../../core/local-data.ts';
import type { WantedPlacement } from '../../placement/moves.ts';
import type { HingeData, PlanData } from '../data.ts';
import {
  again,
  DONE,
  nothingToUndo,
  type OperationRecord,
  operationKind,
  type Step,
  type StepContext,
  type StepResult,
} from '../operation.ts';
import { carryBack, carryOut } from '../steps/carry-out.ts';
import { pointPast } from '../steps/hinges.ts';
import { disconnectIdlePairs } from '../steps/partition.ts';
import { waitFor } from '../waiting.ts';

interface DecommissionInput {
  nodes: NodeId[];
  /** The configuration before, by partitionKey: where a recommission goes back to. */
  placement: Record<string, WantedPlacement>;
  /** What they hold that no other node has may leave with them. */
  abandonLocalTables?: boolean;
}

type DecommissionData = PlanData & HingeData;

const replicasOn = (c: StepContext<unknown>, nodes: readonly NodeId[]) =>
  [...allPartitions(c.view)].filter(({ partition }) => nodes.some((n) => replicaOn(partition, n))).length;

const markDecommissioning: Step<DecommissionInput, DecommissionData> = {
  name: 'mark-decommissioning',
  done: async (c) => c.input.nodes.every((id) => c.view.nodes.get(id)?.state !== 'active'),
  run: async (c) => {
    const given = c.input.abandonLocalTables ? { mayTakeLocalTables: true as const } : {};
    for (const id of c.input.nodes)
      await c.commit({ kind: 'node-changed', id, change: { state: 'decommissioning', ...given } });
    for (const id of c.input.nodes) await c.event('node-decommissioning', `node ${id} gives its replicas away`, id);
    return DONE;
  },
  undo: async (c) => {
    // The undo of the step that follows has done it, unless the operation was cancelled before it was written
    // down that this one is done.
    await makeMembers(c);
    for (const id of c.input.nodes) await c.event('node-recommissioned', `node ${id} is a full member again`, id);
    return DONE;
  },
};

async function makeMembers(c: StepContext<DecommissionInput>): Promise<void> {
  for (const id of c.input.nodes) {
    if (c.view.nodes.get(id)?.state !== 'active') await c.commit({ kind: 'node-changed', id, change: MEMBER });
  }
}

const MEMBER = { state: 'active', draining: false, mayTakeLocalTables: undefined } as const;

const moveReplicasAway: Step<DecommissionInput, DecommissionData> = {
  name: 'move-replicas',
  done: async (c) =>
    replicasOn(c, c.input.nodes) === 0 && c.children().every((child) => child.endedMs !== null) && !placeTakenBy(c),
  run: async (c) => {
    const result = await carryOut(c, { kind: 'repair' });
    if (result.kind === 'again') return result;
    if (replicasOn(c, c.input.nodes) === 0) {
      const other = placeTakenBy(c);
      if (!other) return result;
      const text = `operation ${other.id} (${other.kind} ${other.subject}) has yet to clear its place on a node that leaves`;
      return again(200, waitFor('lock', text));
    }
    const left = replicasOn(c, c.input.nodes);
    if (c.running().some((r) => r.kind === 'move-replica')) {
      return again(200, waitFor('children', `${left} replicas are left, and moves of other operations are under way`));
    }
    return again(500, waitFor('no-target', `${left} replicas have nowhere to go yet`));
  },
  undo: async (c) => {
    // First full members again, which take replicas and leaders, or no plan could bring anything back to
    // them.
    await makeMembers(c);
    // A node that is out, drained or leaving takes nothing back, and may be so for ever; it can be dropped
    // only when this has ended.
    const takes = (n: NodeId) => {
      const node = c.view.nodes.get(n);
      return node?.state === 'active' && !node.draining && !node.outage;
    };
    const placement = Object.entries(c.input.placement).map(
      ([key, { leader, nodes }]) => [key, { leader, nodes: nodes.filter(takes) }] as const,
    );
    return carryBack(c, { kind: 'restore', placement: new Map(placement) });
  },
};

/**
 * An operation that makes a replica on one of the nodes, or takes it back: the catalog may not know it any
 * more.
 */
function placeTakenBy(c: StepContext<DecommissionInput>): OperationRecord | undefined {
  return c.running().find((r) => r.claims.some(({ node }) => c.input.nodes.includes(node)));
}

/** The last hinges that lead to a leaving node are pointed past it before it goes. */
const leaveNoTrace: Step<DecommissionInput, DecommissionData> = {
  name: 'leave-no-trace',
  noReturn: true,
  done: async (c) => c.input.nodes.every((id) => hasLeft(c.view, id)),
  run: async (c) => {
    const late = (await pointPast(c, c.input.nodes)) ?? (await takeAlong(c));
    if (late) return late;
    const staying = connectedNodes(c.view).filter((n) => !c.input.nodes.includes(n.id));
    for (const id of c.input.nodes) await disconnectIdlePairs(c, id);
    for (const id of c.input.nodes) {
      for (const node of staying.filter((n) => c.alive(n.id))) await c.plane.hinges.dropForeignServer(node.id, id);
    }
    for (const id of c.input.nodes) await c.commit({ kind: 'node-changed', id, change: { state: 'decommissioned' } });
    for (const id of c.input.nodes) await c.event('node-decommissioned', lastWords(c, id), id);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

function lastWords(c: StepContext<DecommissionInput>, id: NodeId): string {
  if (!isOut(c.view, id) || c.view.nodes.get(id)?.mayTakeLocalTables)
    return `node ${id} holds nothing and may be stopped`;
  return `node ${id} holds no replica; it is out, so nobody could look for ordinary tables in it: they are in its data folder`;
}

const LOCAL_LOOK_MS = 2_000;
const LOCAL_NAMED_MAX = 3;

/**
 * What nobody else has leaves only where somebody has said so: looked for once more, because clients may have
 * filled tables since the preflight. The operation waits for as long as there is something; it can be
 * cancelled then. Nobody can look into a node that is out, perhaps for ever: it holds nothing of the cluster
 * any more, and its data folder stays where it is.
 */
async function takeAlong(c: StepContext<DecommissionInput>): Promise<StepResult | null> {
  for (const id of c.input.nodes.filter((n) => !isOut(c.view, n) && !c.view.nodes.get(n)?.mayTakeLocalTables)) {
    const found = await c.plane.nodes.localData(id);
    if (found.length === 0) continue;
    const text =
      `node ${id} holds what no other node has: ${describeLocalData(found, LOCAL_NAMED_MAX)}; copy it elsewhere and drop it there, ` +
      `or give it up: tide node decommission ${c.input.nodes.join(' ')} --abandon-local-tables`;
    return again(LOCAL_LOOK_MS, waitFor('local-tables', text, id));
  }
  return null;
}

/** Nodes leave for good: their replicas go to others first. */
export const decommission = operationKind<DecommissionInput, DecommissionData>({
  kind: 'decommission',
  subject: (input) => `${input.nodes.length === 1 ? 'node' : 'nodes'} ${input.nodes.join(', ')}`,
  locks: (input) => input.nodes.map((n) => `node:${n}`),
  movesOn: () => [],
  steps: [markDecommissioning, moveReplicasAway, leaveNoTrace],
});
