import { haveInCommon, inStepOn } from '../../catalog/holders.ts';
import type { NodeId, Partition } from '../../catalog/model.ts';
import { partitionTable } from '../../catalog/names.ts';
import { allPartitions, connectedNodes, hasLeft, isOut, partitionOf, replicaOn, servedBy } from '../../catalog/view.ts';
import { TideError } from '../../core/errors.ts';
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
import type { HingeTarget, PartitionRef } from '../ports.ts';
import { forwardersTo } from '../steps/hinges.ts';
import { awaitArrivals, connectStream, endOutStreams, stopStream } from '../steps/partition.ts';
import { waitFor } from '../waiting.ts';

/**
 * A node that was out is back, behind its fence: it may hold commits that nobody else saw, and believes that
 * it leads what others lead now. What it has not sent is thrown away, its hinges are pointed at the leaders,
 * what the catalog has taken from it is removed, and what it has been given to lead, and never came to open,
 * it leads. Only then it serves; its replicas that were led here are stale and are copied again.
 */
interface RecoverInput {
  node: NodeId;
}

interface RecoverData {
  /** What the node had not sent is thrown away. */
  forgotten?: true;
}

type Context = StepContext<RecoverInput, RecoverData>;

/** What the turn of a hinge may take where no client can be held up by it. */
const FENCED_MS = 5_000;

const isBack = (c: Context) => !isOut(c.view, c.input.node);
const others = (c: Context) => connectedNodes(c.view).filter((n) => n.id !== c.input.node && c.alive(n.id));

const forgetUnsent: Step<RecoverInput, RecoverData> = {
  name: 'forget-unsent',
  done: async (c) => isBack(c) || c.data.forgotten === true,
  run: async (c) => {
    // A node that was away when this one died still expects what it had not sent.
    for (const { id } of others(c)) await c.plane.streams.cut(c.input.node, id);
    await c.plane.streams.dropSenders(c.input.node);
    await c.remember({ forgotten: true });
    return DONE;
  },
  undo: nothingToUndo('streams without a slot are made anew by whoever connects the nodes'),
};

const demote: Step<RecoverInput, RecoverData> = {
  name: 'demote',
  done: async (c) => isBack(c),
  run: async (c) => {
    const { node } = c.input;
    const late = await awaitForwards(c);
    if (late) return late;
    const hinges = await c.plane.hinges.readAll(node);
    const held = new Set((await c.plane.replicas.list(node)).map((r) => partitionTable(r.tid, r.pid)));
    for (const other of connectedNodes(c.view))
      if (other.id !== node) await c.plane.hinges.ensureForeignServer(node, other.id);
    // Clients are shut out: nobody who is in the way has anything to wait for, and a commit that waits for a
    // follower holds its locks for ever.
    let opens = false;
    for (const { table, partition } of allPartitions(c.view)) {
      const { tid, pid, leader } = partition;
      const name = partitionTable(tid, pid);
      const target = hinges.get(name);
      if (!target || (leader === node && target.kind === 'local') || isChanging(c, partition, target)) continue;
      if (leader === node) {
        opens = true;
        await c.plane.replicas.setGuard(node, { tid, pid }, false, 'are-ended');
      } else if (held.has(name)) await c.plane.replicas.setGuard(node, { tid, pid }, true, 'are-ended');
      const to: HingeTarget = leader === node ? { kind: 'local' } : { kind: 'node', node: leader };
      const attempt = await c.plane.hinges.point(node, table, pid, to, FENCED_MS, 'are-ended');
      if (attempt.outcome === 'done') continue;
      await c.plane.sessions.endHolders(node, { tid, pid });
      return again(100, waitFor('lock', `a hinge on node ${node} is in use`, node));
    }
    if (opens) await c.settleQuorum(node);
    await c.plane.hinges.dropLooseForwards(node);
    await createMissingParents(c);
    return DONE;
  },
  undo: nothingToUndo('its hinges lead where the catalog says'),
};

/** Tables that were made while the node was away: clients find them as soon as they are let in. */
async function createMissingParents(c: Context): Promise<void> {
  const { node } = c.input;
  for (const table of c.view.tables.values()) {
    if (table.state !== 'ready' || (await c.plane.parents.exists(node, table))) continue;
    try {
      await c.plane.parents.create(node, table);
    } catch (error) {
      // Only somebody who is let in can take away what has the name; the reconciler says so, and makes it
      // then.
      if (!(error instanceof TideError) || error.code !== 'TABLE_EXISTS') throw error;
    }
  }
}

/**
 * Null once nobody leads clients straight to rows here that others lead now: the forward of a change to this
 * node, which a failover has overtaken, is turned by that change or that failover. A node that does not
 * answer may have one, and clients who go through it.
 */
async function awaitForwards(c: Context): Promise<StepResult | null> {
  const { node } = c.input;
  for (const { partition } of allPartitions(c.view)) {
    const { tid, pid, leader } = partition;
    for (const source of leader === node ? [] : forwardersTo(c, node, partition)) {
      if (!c.alive(source)) return again(200, waitFor('node', `node ${source} may lead clients to rows here`, source));
      if ((await c.plane.hinges.read(source, { tid, pid }))?.kind !== 'forward') continue;
      return again(100, waitFor('lock', `node ${source} still leads clients to rows here`, source));
    }
  }
  return null;
}

/**
 * A change of leader that goes on when the node is back has forwarded it to the next leader, whose own hinge
 * may still lead here: through the forward every statement arrives, through the ordinary way it would go in a
 * circle.
 */
function isChanging(c: Context, { tid, pid, leader, epoch }: Partition, target: HingeTarget): boolean {
  const { node } = c.input;
  if (target.kind !== 'forward' || target.epoch !== (leader === node ? epoch + 1 : epoch)) return false;
  return c.running().some((r) => r.data.source === node && r.input.tid === tid && r.input.pid === pid);
}

const removeStrays: Step<RecoverInput, RecoverData> = {
  name: 'remove-strays',
  done: async (c) => isBack(c),
  run: async (c) => {
    await disconnectReturned(c);
    const late = await dropStrays(c);
    // A node that is away may be so for long: this one serves meanwhile, and the rest goes when it has
    // (reopen-streams).
    return late === null || isForAway(late) ? DONE : late;
  },
  undo: nothingToUndo('nobody counts on them'),
};

const isForAway = (late: StepResult) => late.kind === 'again' && late.waitsFor?.kind === 'node';

/**
 * A replica that neither the catalog knows nor an operation that is at work; one that is being undone leaves
 * it to whoever comes later.
 */
function isStray(c: Context, { tid, pid }: PartitionRef): boolean {
  const partition = partitionOf(c.view, tid, pid);
  if (partition && replicaOn(partition, c.input.node)) return false;
  const claimed = (claim: { kind: string; node: NodeId; name: string }) =>
    claim.kind === 'replica-table' && claim.node === c.input.node && claim.name === partitionTable(tid, pid);
  return !c.running().some((r) => r.status === 'running' && r.claims.some(claimed));
}

/**
 * Drops the replicas that the catalog does not know: whoever makes one enters it there first, and not while
 * this goes on. Null, or what has to be waited for: any node may have sent rows there before the replica was
 * taken from it, and those of one that is away come when it is back.
 */
async function dropStrays(c: Context): Promise<StepResult | null> {
  const { node } = c.input;
  const senders = connectedNodes(c.view).map((n) => n.id);
  for (const ref of await c.plane.replicas.list(node)) {
    if (!isStray(c, ref)) continue;
    for (const other of others(c)) await stopStream(c, other.id, node, ref);
    const sending = senders.filter((n) => !isOut(c.view, n));
    const late = (await endOutStreams(c, senders, node)) ?? (await awaitArrivals(c, node, sending));
    if (late) return late;
    await c.plane.replicas.drop(node, ref, 'are-ended');
  }
  return null;
}

/**
 * Streams with nodes it shares nothing with any more, or that have left: their side went while this one was
 * away.
 */
async function disconnectReturned(c: Context): Promise<void> {
  const { node } = c.input;
  for (const { id, state } of c.view.nodes.values()) {
    if (state === 'decommissioned') await c.plane.streams.disconnect(id, node, id);
  }
  for (const other of others(c)) {
    if (haveInCommon(c.view, node, other.id)) continue;
    await Promise.all([c.plane.streams.disconnect(node, other.id), c.plane.streams.disconnect(other.id, node)]);
  }
}

const takeBack: Step<RecoverInput, RecoverData> = {
  name: 'take-back',
  noReturn: true,
  done: async (c) => isBack(c),
  run: async (c) => {
    const { node } = c.input;
    // Nobody was fed what it still leads since its streams were cut, and a new stream says of none that it
    // has missed rows.
    const hinges = await c.plane.hinges.readAll(node);
    const leads = (p: Partition) => hinges.get(partitionTable(p.tid, p.pid))?.kind !== 'forward';
    const unfed = servedBy(c.view, node)
      .filter(leads)
      .flatMap(({ tid, pid, replicas }) =>
        replicas
          .filter((r) => r.node !== node && r.state === 'ready')
          .map((r) => ({ kind: 'replica-changed', tid, pid, node: r.node, state: 'stale' }) as const),
      );
    await c.commit({ kind: 'node-changed', id: node, change: { outage: undefined } }, ...unfed);
    await c.event('node-back', `node ${node} may serve again`, node);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

/**
 * Streams need the fence down, which the node does at its next beat. A stream of which this node leads a
 * partition is the reconciler's.
 */
const reopenStreams: Step<RecoverInput, RecoverData> = {
  name: 'reopen-streams',
  // It has gone again before it served: whoever fails it over waits for this operation to end. Or it has
  // left, and serves no more.
  done: async (c) =>
    hasLeft(c.view, c.input.node) || c.running().some((r) => r.kind === 'failover' && r.input.node === c.input.node),
  run: async (c) => {
    const { node } = c.input;
    if (!c.alive(node)) return again(50, waitFor('node', `node ${node} has yet to serve`, node));
    for (const other of others(c)) {
      const refs = inStepOn(c.view, node, other.id);
      if (refs.length === 0) continue;
      // Broken streams are the reconciler's as well.
      if ((await connectStream(c, node, other.id)) || (await connectStream(c, other.id, node))) continue;
      await c.plane.streams.start(
        node,
        other.id,
        refs.filter((r) => r.leader !== node),
        false,
      );
      await c.plane.streams.start(
        other.id,
        node,
        refs.filter((r) => r.leader !== other.id),
        false,
      );
    }
    // An operation that was undone while the node was out, and after its strays had been looked for, has left
    // its table to this.
    return (await dropStrays(c)) ?? DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

export const recoverNode = operationKind<RecoverInput, RecoverData>({
  kind: 'recover-node',
  subject: (input) => `node ${input.node}`,
  locks: (input) => [outageLock(input.node)],
  movesOn: () => [],
  steps: [forgetUnsent, demote, removeStrays, takeBack, reopenStreams],
});
