import type { NodeId, NodeRecord } from '../../catalog/model.ts';
import { allPartitions, connectedNodes, hasLeft, isOut, replicaOn } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import { describeLocalData } from '../../core/local-data.ts';
import type { WantedPlacement } from '../../placement/moves.ts';
import type { Goal } from '../../placement/plan.ts';
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
import { carryBack, carryOut, stopChildren } from '../steps/carry-out.ts';
import { pointPast } from '../steps/hinges.ts';
import { disconnectIdlePairs } from '../steps/partition.ts';
import { waitFor } from '../waiting.ts';

/** Nodes coming and going. */

interface JoinInput {
  node: NodeId;
}

const joining = (c: StepContext<JoinInput>) => must(c.view.nodes.get(c.input.node), `node ${c.input.node}`);

const ROLES_LOOK_MS = 500;

const prepareDatabase: Step<JoinInput> = {
  name: 'prepare-database',
  done: async (c) => joining(c).state !== 'joining',
  run: async (c) => {
    await c.plane.nodes.bootstrap(c.input.node);
    const left = c.view.ownRoles ? await c.plane.nodes.weakenClients(c.input.node) : 'already';
    if (left === 'already' || left === 'done') return DONE;
    return again(ROLES_LOOK_MS, waitFor('lock', `on node ${c.input.node}: ${left}`, c.input.node));
  },
  undo: async (c) => setNode(c, c.input.node, { state: 'decommissioned' }),
};

/**
 * Servers in both directions; a node that is away gets its own when it is back, one that is joining too when
 * its turn comes.
 */
const linkServers: Step<JoinInput> = {
  name: 'link-servers',
  done: async (c) => joining(c).state !== 'joining',
  run: async (c) => {
    for (const other of connectedNodes(c.view).filter((n) => n.id !== c.input.node)) {
      await c.plane.hinges.ensureServer(c.input.node, other.id);
      if (c.alive(other.id) && other.state !== 'joining') await c.plane.hinges.ensureServer(other.id, c.input.node);
    }
    return DONE;
  },
  undo: async (c) => {
    for (const other of connectedNodes(c.view).filter((n) => n.id !== c.input.node && c.alive(n.id))) {
      await c.plane.hinges.dropServer(other.id, c.input.node);
    }
    return DONE;
  },
};

const createTables: Step<JoinInput> = {
  name: 'create-tables',
  done: async (c) => joining(c).state !== 'joining',
  run: async (c) => {
    for (const table of c.view.tables.values()) {
      if (table.state === 'ready') await c.plane.parents.create(c.input.node, table);
    }
    return DONE;
  },
  undo: nothingToUndo('an empty store is cleared by its owner'),
};

const openNode: Step<JoinInput> = {
  name: 'open-node',
  noReturn: true,
  done: async (c) => joining(c).state !== 'joining',
  run: async (c) => {
    await setNode(c, c.input.node, { state: 'active' });
    await c.event('node-joined', `node ${c.input.node} at ${joining(c).address}`, c.input.node);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

export const joinNode = operationKind<JoinInput>({
  kind: 'join-node',
  subject: (input) => `node ${input.node}`,
  locks: (input) => ['schema', `node:${input.node}`],
  movesOn: () => [],
  steps: [prepareDatabase, linkServers, createTables, openNode],
});

interface RebalanceInput {
  goal: 'balance' | 'repair';
  why: string;
}

const rebalanceGoal = (c: StepContext<RebalanceInput>): Goal => ({ kind: c.input.goal });

export const rebalance = operationKind<RebalanceInput, PlanData>({
  kind: 'rebalance',
  subject: (input) => input.why,
  locks: () => ['rebalance'],
  movesOn: () => [],
  steps: [
    {
      name: 'move-replicas',
      done: async () => false,
      run: async (c) => {
        const result = await carryOut(c, rebalanceGoal(c));
        // Ends with what can be done, and does not stand in the way of the next: the manager repairs again
        // when more can.
        return result.kind === 'again' && result.waitsFor?.kind === 'no-target' ? DONE : result;
      },
      undo: async (c) => stopChildren(c),
    },
  ],
});

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
    for (const id of c.input.nodes) await setNode(c, id, { state: 'decommissioning', ...given });
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
      for (const node of staying.filter((n) => c.alive(n.id))) await c.plane.hinges.dropServer(node.id, id);
    }
    for (const id of c.input.nodes) await setNode(c, id, { state: 'decommissioned' });
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

export const decommission = operationKind<DecommissionInput, DecommissionData>({
  kind: 'decommission',
  subject: (input) => `${input.nodes.length === 1 ? 'node' : 'nodes'} ${input.nodes.join(', ')}`,
  locks: (input) => input.nodes.map((n) => `node:${n}`),
  movesOn: () => [],
  steps: [markDecommissioning, moveReplicasAway, leaveNoTrace],
});

export async function setNode(c: StepContext<unknown>, id: NodeId, change: Partial<NodeRecord>) {
  await c.commit({ kind: 'node-changed', id, change });
  return DONE;
}
