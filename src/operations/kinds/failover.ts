import type { NodeId, Outage, Partition } from '../../catalog/model.ts';
import { followersOf, haveAllBetween } from '../../catalog/quorum.ts';
import { isOut, partitionKey, partitionOf, replicaOn, servedBy } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import {
  again,
  DONE,
  nothingToUndo,
  type OperationRecord,
  operationKind,
  outageLock,
  type Step,
  type StepContext,
} from '../operation.ts';
import type { PartitionRef } from '../ports.ts';
import { forwardersTo, pointPastDead } from '../steps/hinges.ts';
import { connectStream } from '../steps/partition.ts';
import { waitFor } from '../waiting.ts';

/**
 * docs/spec/outages.md. The node is down, or its server lets nobody in, and starts only behind its fence:
 *
 *   cut its streams → mark it → end what involves it → choose the leaders
 *     ══ no return ══ publish them → open them
 *
 * The followers' positions in the dead node's stream say who has most; nothing can move them once the streams
 * are cut.
 */
export interface FailoverInput {
  node: NodeId;
  by: Outage['by'];
  /**
   * The operator's choice for a partition whose followers may lack what the node acknowledged (`tide
   * partition recover`).
   */
  recover?: PartitionRef & { to: NodeId };
  /** Milliseconds since 1970; without it, out since now. */
  sinceMs?: number;
}

/** What becomes of one partition that the dead node led. */
interface Choice extends PartitionRef {
  /** The epoch under which `leader` leads. */
  epoch: number;
  leader: NodeId;
  /** Replicas that lack rows, or may, and the dead node's, which may have too many: copied again. */
  stale: NodeId[];
  /** A follower that an unfinished change of leader had unguarded. */
  guard: NodeId | null;
}

export interface FailoverData {
  /**
   * How far each live node had come in the dead node's streams, by its id; null: it receives nothing from
   * there.
   */
  positions?: Readonly<Record<string, number | null>>;
  settlingSinceMs?: number;
  choices?: readonly Choice[];
}

type Context = StepContext<FailoverInput, FailoverData>;

const choicesOf = (c: Context) => must(c.data.choices, 'the choice of leaders');
const refOf = ({ tid, pid }: PartitionRef): PartitionRef => ({ tid, pid });
const ledBy = (c: Context, node: NodeId) => servedBy(c.view, node);

const cutStreams: Step<FailoverInput, FailoverData> = {
  name: 'cut-streams',
  done: async (c) => c.data.positions !== undefined,
  run: async (c) => {
    const { node } = c.input;
    const live = [...c.view.nodes.keys()].filter((n) => n !== node && c.alive(n));
    const positions = await Promise.all(live.map(async (to) => [to, await c.plane.streams.cut(node, to)] as const));
    await c.remember({ positions: Object.fromEntries(positions) });
    return DONE;
  },
  undo: nothingToUndo('the streams are made anew when the node returns'),
};

/**
 * From here on nobody asks the node for anything, and operations that are undone leave out what lies there.
 */
const markOutage: Step<FailoverInput, FailoverData> = {
  name: 'mark-outage',
  done: async (c) => c.view.nodes.get(c.input.node)?.outage?.by === c.input.by,
  run: async (c) => {
    const node = must(c.view.nodes.get(c.input.node), `node ${c.input.node}`);
    const outage = { by: c.input.by, sinceMs: node.outage?.sinceMs ?? c.input.sinceMs ?? c.clock.nowMs() };
    await c.commit({ kind: 'node-changed', id: node.id, change: { outage } });
    await c.event(
      'node-out',
      `node ${node.id} is out of service: ${c.input.by === 'operator' ? 'somebody said so' : 'it is down'}`,
      node.id,
    );
    return DONE;
  },
  undo: nothingToUndo('the node is taken back when it returns'),
};

/**
 * An operation that cannot be ended in this time keeps its partition: the next failover looks at it again.
 */
const SETTLE_MS = 5_000;

/**
 * Everything that involves the node and can still be undone, is; what is past its point of no return goes on
 * beside this.
 */
const settleOperations: Step<FailoverInput, FailoverData> = {
  name: 'settle-operations',
  done: async (c) => c.data.choices !== undefined,
  run: async (c) => {
    const sinceMs = c.data.settlingSinceMs ?? c.clock.nowMs();
    if (c.data.settlingSinceMs === undefined) await c.remember({ settlingSinceMs: sinceMs });
    const mine = inTheWay(c);
    for (const { id, cancelRequested, passedNoReturn } of mine)
      if (!cancelRequested && !passedNoReturn) await c.cancel(id);
    const settlingMs = c.clock.nowMs() - sinceMs;
    // Before it began, where another manager with another clock did: nobody waits for that.
    const late = settlingMs > SETTLE_MS || settlingMs < 0;
    if (mine.length === 0 || late) return DONE;
    return again(
      20,
      waitFor('lock', `${mine.length} operations with node ${c.input.node} are being undone`, c.input.node),
    );
  },
  undo: nothingToUndo('what was undone can be asked for again'),
};

/**
 * Operations on one partition that need the node: as source or target, or as the leader to copy from. Not
 * those that have been undone as far as they can be before somebody leads.
 */
function inTheWay(c: Context): OperationRecord[] {
  const { node } = c.input;
  return c.running().filter((r) => {
    const { tid, pid, from, to } = r.input as Partial<Record<'tid' | 'pid' | 'from' | 'to', number>>;
    if (tid === undefined || pid === undefined || r.data.awaitsLeader === node) return false;
    const leader = partitionOf(c.view, tid, pid)?.leader;
    // A swing to the node that the catalog does not know yet: once it does, the node leads this too.
    if (r.passedNoReturn) return to === node && r.data.source === leader;
    if (waitsForCopyOf(c, r)) return false;
    return !hasLostSource(c, r) && (from === node || to === node || leader === node);
  });
}

/**
 * Whether it only takes back a copy on a node that does not answer: that one counts no more, whoever leads,
 * and may be silent for as long as its machine is frozen.
 */
function waitsForCopyOf(c: Context, { status, input }: OperationRecord): boolean {
  const { tid, pid, to } = input as { tid: number; pid: number; to?: NodeId };
  const partition = partitionOf(c.view, tid, pid);
  if (status !== 'undoing' || to === undefined || to === partition?.leader || c.alive(to)) return false;
  return partition !== undefined && replicaOn(partition, to)?.state !== 'ready';
}

/** Whether its swing came through is known by the dead node alone. */
const hasLostSource = (c: Context, r: OperationRecord) => r.began === 'swing' && r.data.source === c.input.node;

const chooseLeaders: Step<FailoverInput, FailoverData> = {
  name: 'choose-leaders',
  noReturn: true,
  done: async (c) => c.data.choices !== undefined,
  run: async (c) => {
    const busy = new Set(inTheWay(c).map((r) => partitionKey(Number(r.input.tid), Number(r.input.pid))));
    const leads = new Map<NodeId, number>();
    const choices: Choice[] = [];
    for (const partition of ledBy(c, c.input.node)) {
      if (busy.has(partitionKey(partition.tid, partition.pid))) continue;
      const choice = choose(c, partition, leads);
      if (!choice) continue;
      leads.set(choice.leader, (leads.get(choice.leader) ?? 0) + 1);
      choices.push(choice);
    }
    for (const { leader, guard, ...ref } of choices) {
      if (guard === null) continue;
      // Rows that came to it through the dead node after an unpublished swing.
      const marker = await c.plane.markers.write(guard);
      if (!(await c.plane.markers.arrives(leader, guard, marker, 2_000)))
        return again(50, waitFor('lag', `node ${leader} has not all of ${partitionKey(ref.tid, ref.pid)}`, leader));
    }
    await c.remember({ choices });
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

/**
 * The follower that has most of what the dead node wrote; among equals the target of an unfinished change of
 * leader, then the one that leads least. Positions are those of the whole stream: a follower behind in it may
 * have all rows of this partition, and is copied again all the same.
 */
function choose(c: Context, partition: Partition, leads: ReadonlyMap<NodeId, number>): Choice | null {
  const { node } = c.input;
  const unfinished = c
    .running()
    .find(
      (r) =>
        (r.passedNoReturn || hasLostSource(c, r)) &&
        r.data.source === node &&
        r.input.tid === partition.tid &&
        r.input.pid === partition.pid,
    );
  const target = unfinished ? Number(unfinished.input.to) : null;
  const position = (n: NodeId) => c.data.positions?.[n] ?? null;
  const { recover } = c.input;
  if (recover?.tid === partition.tid && recover.pid === partition.pid) return recovered(c, partition, target);
  const followers = followersOf(partition, node);
  const able = followers
    .filter((n) => c.alive(n) && position(n) !== null)
    .sort(
      (a, b) =>
        Number(position(b)) - Number(position(a)) ||
        Number(b === target) - Number(a === target) ||
        (leads.get(a) ?? 0) - (leads.get(b) ?? 0) ||
        a - b,
    );
  if (!haveAllBetween(c.view, node, able)) return null;
  const [leader] = able;
  // The swing may have come through, and rows be there that nobody else has.
  if (leader === undefined || (target !== null && !able.includes(target))) return null;
  const level = able.filter((n) => position(n) === position(leader));
  return {
    tid: partition.tid,
    pid: partition.pid,
    epoch: partition.epoch + 1,
    leader,
    stale: partition.replicas.filter((r) => r.state === 'ready' && !level.includes(r.node)).map((r) => r.node),
    guard: target === leader ? null : target,
  };
}

/** The operator's choice leads with what it has; everybody else is copied again. */
function recovered(c: Context, { tid, pid, epoch, replicas }: Partition, target: NodeId | null): Choice | null {
  const { to } = must(c.input.recover, 'the choice of the operator');
  if (!c.alive(to) || !replicas.some((r) => r.node === to)) return null;
  const stale = replicas.filter((r) => r.state === 'ready' && r.node !== to).map((r) => r.node);
  return { tid, pid, epoch: epoch + 1, leader: to, stale, guard: target === to ? null : target };
}

/**
 * Streams first: a replica that has to be copied again must not be sent a row that it cannot take. Then all
 * of it in one change.
 */
const publishLeaders: Step<FailoverInput, FailoverData> = {
  name: 'publish-leaders',
  done: async (c) => choicesOf(c).every((choice) => !isDue(c, choice)),
  run: async (c) => {
    const due = choicesOf(c).filter((choice) => isDue(c, choice));
    await eachAtOnce(due, (choice) => leaveStaleBehind(c, choice));
    await c.commit(
      ...due.map(
        (choice) => ({ kind: 'replica-changed', ...refOf(choice), node: choice.leader, state: 'ready' }) as const,
      ),
      ...due.map((choice) => ({ kind: 'leader-changed', ...refOf(choice), leader: choice.leader }) as const),
      ...due.flatMap((choice) =>
        choice.stale.map((node) => ({ kind: 'replica-changed', ...refOf(choice), node, state: 'stale' }) as const),
      ),
    );
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

/**
 * One that has gone silent since it was chosen holds up nobody else: the next failover of the node chooses
 * anew.
 */
const isDue = (c: Context, choice: Choice) => {
  if (!c.alive(choice.leader)) return false;
  const partition = partitionOf(c.view, choice.tid, choice.pid);
  return partition?.leader === c.input.node && partition.epoch + 1 === choice.epoch;
};

async function leaveStaleBehind(c: Context, choice: Choice): Promise<void> {
  const partition = must(partitionOf(c.view, choice.tid, choice.pid), 'partition');
  // First, since none of this may come to its end: what is sent no more must not count. The leader, and the
  // one that leads if it is back, are left as they are.
  const left = choice.stale.filter((n) => n !== choice.guard && followersOf(partition, partition.leader).includes(n));
  await c.commit(...left.map((node) => ({ kind: 'replica-changed', ...refOf(choice), node, state: 'stale' }) as const));
  const holders = partition.replicas.map((r) => r.node).filter((n) => n !== c.input.node && c.alive(n));
  for (const from of holders) {
    for (const to of choice.stale.filter((n) => n !== from)) await c.plane.streams.stopSending(from, to, refOf(choice));
  }
  // One that has gone meanwhile is given the streams it lacks when it returns, and one whose stream is broken
  // acknowledges nothing until it is stale.
  for (const to of followersOf(partition, choice.leader).filter((n) => !choice.stale.includes(n) && c.alive(n))) {
    if (await isHeldUp(c, choice.leader, to)) continue;
    if (await connectStream(c, choice.leader, to)) continue;
    await c.plane.streams.start(choice.leader, to, [refOf(choice)], false);
  }
}

/**
 * A stream that is not there needs a slot, which would wait for every open transaction of its sender: it is
 * made when the partition is led again.
 */
async function isHeldUp(c: Context, from: NodeId, to: NodeId): Promise<boolean> {
  return !(await c.plane.streams.isWhole(from, to)) && (await c.plane.sessions.oldestWriter(from)) !== null;
}

/**
 * Sessions on a hinge that leads to the dead node get nowhere: they are ended in the last of so many tries.
 */
const HOLDERS_TRIES = 2;

const openLeaders: Step<FailoverInput, FailoverData> = {
  name: 'open-leaders',
  done: async () => false,
  run: async (c) => {
    const leaders = new Set(choicesOf(c).map((choice) => choice.leader));
    // From its first write on, a leader has to acknowledge only what a follower has.
    await Promise.all([...leaders].filter(c.alive).map((n) => c.settleQuorum(n)));
    const late = await eachAtOnce(choicesOf(c), (choice) => open(c, choice));
    if (late.some(Boolean))
      return again(50, waitFor('lock', `the hinges of ${late.filter(Boolean).length} partitions are in use`));
    await tellOutcome(c);
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

/** True where the hinge could not be turned yet. */
async function open(c: Context, choice: Choice): Promise<boolean> {
  const table = c.view.tables.get(choice.tid);
  const partition = partitionOf(c.view, choice.tid, choice.pid);
  const { leader, guard, epoch } = choice;
  if (!table || partition?.epoch !== epoch || partition.leader !== leader || isOut(c.view, leader)) return false;
  // Its replica may have been given up meanwhile.
  if (guard !== null && c.alive(guard) && replicaOn(partition, guard))
    await c.plane.replicas.setGuard(guard, refOf(choice), true);
  await c.plane.replicas.setGuard(leader, refOf(choice), false);
  const budgetMs = c.view.settings['move.max_pause'];
  for (let tries = 1; tries <= HOLDERS_TRIES; tries++) {
    const others = tries === HOLDERS_TRIES ? 'are-ended' : undefined;
    const attempt = await c.plane.hinges.point(leader, table, choice.pid, { kind: 'local' }, budgetMs, others);
    if (attempt.outcome === 'done') return isForwardedYet(c, choice);
  }
  await c.plane.sessions.endHolders(leader, refOf(choice));
  return true;
}

/** The source of an unfinished change to the dead node still leads its clients straight to the rows there. */
async function isForwardedYet(c: Context, { leader, ...choice }: Choice): Promise<boolean> {
  const ref = refOf(choice);
  for (const source of forwardersTo(c, c.input.node, ref)) {
    if (source === leader || !c.alive(source)) continue;
    if ((await c.plane.hinges.read(source, ref))?.kind === 'forward' && (await pointPastDead(c, source, ref)))
      return true;
  }
  return false;
}

async function tellOutcome(c: Context): Promise<void> {
  const { node } = c.input;
  const left = ledBy(c, node).map(({ tid, pid }) => partitionKey(tid, pid));
  const led = choicesOf(c).filter(({ tid, pid }) => partitionOf(c.view, tid, pid)?.leader !== node);
  const without = left.length > 0 ? `; without live followers that have all it acknowledged: ${left.join(', ')}` : '';
  await c.event('failover', `node ${node}: ${led.length} partitions have a new leader${without}`, node);
}

/** Partitions of different leaders at once, those of one leader one after the other. */
async function eachAtOnce<T>(choices: readonly Choice[], work: (choice: Choice) => Promise<T>): Promise<T[]> {
  const leaders = [...new Set(choices.map((choice) => choice.leader))];
  const results = await Promise.all(
    leaders.map(async (leader) => {
      const done: T[] = [];
      for (const choice of choices) if (choice.leader === leader) done.push(await work(choice));
      return done;
    }),
  );
  return results.flat();
}

export const failover = operationKind<FailoverInput, FailoverData>({
  kind: 'failover',
  subject: (input) => `node ${input.node}`,
  locks: (input) => [outageLock(input.node)],
  movesOn: () => [],
  steps: [cutStreams, markOutage, settleOperations, chooseLeaders, publishLeaders, openLeaders],
});
