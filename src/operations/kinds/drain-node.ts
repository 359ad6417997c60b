import { heldBy } from '../../catalog/holders.ts';
import type { Drained, NodeId, NodeRecord } from '../../catalog/model.ts';
import { mayBeAway } from '../../catalog/quorum.ts';
import { allPartitions, connectedNodes, partitionKey, replicaOn } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import { messageOf } from '../../core/errors.ts';
import type { Goal } from '../../placement/plan.ts';
import type { HingeData, PlanData, QuorumData } from '../data.ts';
import {
  again,
  DONE,
  nothingToUndo,
  type OperationRecord,
  operationKind,
  partitionLock,
  type Step,
  type StepContext,
  type StepResult,
} from '../operation.ts';
import { carryBack, carryOut, endMoves, stopChildren } from '../steps/carry-out.ts';
import { pointPast } from '../steps/hinges.ts';
import { awaitArrivals } from '../steps/partition.ts';
import { demandQuorum } from '../steps/protect.ts';
import { waitFor } from '../waiting.ts';

/**
 * A planned stop: the node leads nothing, nobody's statement goes through it and nobody's commit waits for it
 * when it is stopped. What that took is noted with the node, and the same operation with `draining` off gives
 * it back.
 */
interface DrainInput {
  node: NodeId;
  draining: boolean;
  /** Partitions without another replica stay as they are. */
  alone?: boolean;
}

interface DrainData extends PlanData, QuorumData, HingeData {
  /** Whether the node was draining before. */
  was?: boolean;
  marked?: true;
}

type Context = StepContext<DrainInput, DrainData>;

const nodeOf = (c: Context): NodeRecord => must(c.view.nodes.get(c.input.node), `node ${c.input.node}`);
const goalOf = (node: NodeId, draining: boolean): Goal => ({ kind: draining ? 'cover' : 'give-back', node });

const markDraining: Step<DrainInput, DrainData> = {
  name: 'mark-draining',
  done: async (c) => c.data.marked === true,
  run: async (c) => {
    const { node, draining, alone = false } = c.input;
    const { draining: was, drained: before } = nodeOf(c);
    // Drained twice, it gets back what it led before the first time too; what it led in place of another
    // drained node is that one's.
    const leads = ledBy(c).map((p) => partitionKey(p.tid, p.pid));
    const others = [...c.view.nodes.values()].filter((n) => n.id !== node).flatMap((n) => n.drained?.leaders ?? []);
    const leaders = [...new Set([...(before?.leaders ?? []), ...leads])].filter((key) => !others.includes(key));
    const drained: Drained = { alone, leaders, copies: before?.copies ?? [] };
    await c.remember({ was: c.data.was ?? was });
    const late = draining ? null : await countAgain(c);
    if (late) return late;
    const change = draining ? { draining, drained } : { draining };
    await c.commit({ kind: 'node-changed', id: node, change });
    await c.remember({ marked: true });
    return DONE;
  },
  undo: async (c) => {
    const { node: id, draining } = c.input;
    if (!changes(c)) return DONE;
    const late = draining && nodeOf(c).draining ? await countAgain(c) : null;
    if (late) return late;
    const change = draining ? { draining: false, drained: undefined } : { draining: true };
    await c.commit({ kind: 'node-changed', id, change });
    return DONE;
  },
};

/**
 * What was acknowledged without the node while it was drained, it has; and commits wait for it where it
 * counts, before it does.
 */
async function countAgain(c: Context): Promise<StepResult | null> {
  const { node } = c.input;
  if (!c.alive(node)) return null;
  const followed = held(c).filter((p) => p.leader !== node && mayBeAway(c.view, p, node) && c.alive(p.leader));
  const late = await awaitArrivals(c, node, [...new Set(followed.map((p) => p.leader))]);
  if (late) return late;
  await demandQuorum(c, ...followed.map(({ tid, pid, leader }) => ({ node: leader, tid, pid, with: [node] })));
  return null;
}

/** False where it was drained, or was not, before. */
const changes = (c: Context) => c.data.was === !c.input.draining;

const moveLeaders: Step<DrainInput, DrainData> = {
  name: 'move-leaders',
  done: async () => false,
  run: async (c) => {
    const result = await carryOut(c, goalOf(c.input.node, c.input.draining));
    await noteCopies(c);
    if (result.kind === 'again') return result;
    const other = operationHere(c);
    return other
      ? again(200, waitFor('lock', `operation ${other.id} (${other.kind} ${other.subject}) goes first`))
      : DONE;
  },
  undo: async (c) => {
    const { node, draining } = c.input;
    if (!changes(c)) return stopChildren(c);
    const ending = await endMoves(c);
    if (ending) return ending;
    await noteCopies(c);
    // First as it was, or no plan could bring anything back.
    if (nodeOf(c).draining === draining) {
      const late = draining ? await countAgain(c) : null;
      if (late) return late;
      await c.commit({ kind: 'node-changed', id: node, change: { draining: !draining } });
    }
    const result = await carryBack(c, goalOf(node, !draining));
    const isStuck = result.kind === 'again' && result.waitsFor?.kind === 'no-target';
    return isStuck ? DONE : result;
  },
};

/**
 * Somebody else's operation on a partition that the node holds: it was planned around, and may change what is
 * to be done.
 */
function operationHere(c: Context): OperationRecord | undefined {
  const locks = new Set(held(c).map((p) => partitionLock(p.tid, p.pid)));
  return c.running().find(({ input }) => locks.has(partitionLock(Number(input.tid), Number(input.pid))));
}

/** Copies are made by no other moves than those that cover a drained node. */
async function noteCopies(c: Context): Promise<void> {
  const { drained } = nodeOf(c);
  if (!drained) return;
  const made = c
    .children()
    .filter((child) => child.kind === 'add-replica' && child.status === 'done')
    .map(({ input }) => ({ tid: Number(input.tid), pid: Number(input.pid), node: Number(input.to) }));
  const known = new Set(drained.copies.map((copy) => JSON.stringify(copy)));
  const added = made.filter((copy) => !known.has(JSON.stringify(copy)));
  if (added.length === 0) return;
  await c.commit({
    kind: 'node-changed',
    id: c.input.node,
    change: { drained: { ...drained, copies: [...drained.copies, ...added] } },
  });
}

const held = (c: Context) => heldBy(c.view, c.input.node);
const ledBy = (c: Context) => held(c).filter((p) => p.leader === c.input.node);

const letGo: Step<DrainInput, DrainData> = {
  name: 'let-go',
  done: async (c) => !c.input.draining,
  run: async (c) => {
    const { node } = c.input;
    // What this meets passes: nobody has to take back a drain whose leaders are away already.
    const late = await pointPast(c, [node]).catch((error) => again(500, waitFor('lock', messageOf(error))));
    if (late) return late;
    for (const other of connectedNodes(c.view)) {
      if (other.id !== node && other.state !== 'joining' && c.alive(other.id)) await c.settleQuorum(other.id);
    }
    await c.event('node-drained', drainedText(c), node);
    return DONE;
  },
  undo: nothingToUndo('hinges lead to the leaders, and quorums follow the catalog'),
};

function drainedText(c: Context): string {
  const { node } = c.input;
  const led = ledBy(c).length;
  const unfollowed = [...allPartitions(c.view)].filter(
    ({ table, partition: { leader, replicas } }) =>
      table.replicaCount > 1 &&
      leader !== node &&
      replicas.some((r) => r.node === node) &&
      !replicas.some((r) => r.node !== node && r.node !== leader && r.state === 'ready'),
  ).length;
  const unreachable = led > 0 ? `; while it is away, partitions are not reachable: ${led}` : '';
  const bare = unfollowed > 0 ? `; while it is away, partitions are on their leader only: ${unfollowed}` : '';
  return `node ${node} is drained and may be stopped${unreachable}${bare}`;
}

const forgetDrain: Step<DrainInput, DrainData> = {
  name: 'forget-drain',
  noReturn: true,
  done: async (c) => c.input.draining || nodeOf(c).drained === undefined,
  run: async (c) => {
    const { node } = c.input;
    const { leaders = [], copies = [] } = nodeOf(c).drained ?? {};
    const back = ledBy(c).filter((p) => leaders.includes(partitionKey(p.tid, p.pid))).length;
    const kept = copies.filter(({ tid, pid, node: on }) => {
      const partition = c.view.tables.get(tid)?.partitions[pid];
      return partition !== undefined && replicaOn(partition, on) !== undefined;
    }).length;
    await c.commit({ kind: 'node-changed', id: node, change: { drained: undefined } });
    const stay = kept > 0 ? `; ${kept} copies made for the time have come to stay` : '';
    await c.event(
      'node-undrained',
      `node ${node} leads ${back} of the ${leaders.length} partitions again that it led${stay}`,
      node,
    );
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

export const drainNode = operationKind<DrainInput, DrainData>({
  kind: 'drain-node',
  subject: (input) => `node ${input.node}${input.draining ? '' : ' takes leaders again'}`,
  locks: (input) => [`node:${input.node}`],
  movesOn: () => [],
  steps: [markDraining, moveLeaders, letGo, forgetDrain],
});
