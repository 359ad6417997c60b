import type { NodeId } from '../../catalog/model.ts';
import { forwardName } from '../../catalog/names.ts';
import { followersOf } from '../../catalog/quorum.ts';
import { connectedNodes, isOut, partitionKey, replicaOn } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import { TideError, tideError } from '../../core/errors.ts';
import type { LeaderData } from '../data.ts';
import { again, DONE, nothingToUndo, type Step, type StepContext, type StepResult } from '../operation.ts';
import { pauseLimit } from '../pause-budget.ts';
import type { HingeTarget, PartitionRef } from '../ports.ts';
import { waitFor, waitForTransaction } from '../waiting.ts';
import { pointPastDead } from './hinges.ts';
import { connectStream, partitionNow, refOf, tableOf } from './partition.ts';
import { backOff, budgetAt, nearlyCaughtUp, oldHolder, type Place } from './patience.ts';
import { protectPartition, withdrawDemands } from './protect.ts';

/**
 * docs/spec/moves.md, M3. The swing of the old leader's hinge, one local commit, is the change of leader;
 * everything after it only shortens the way:
 *
 *   before   A: hinge → rows                          B: hinge → A, its quorum protects the partition already
 *   swing    A: hinge ⇒ B's rows (own connection)     B: hinge → A
 *   settle   A: hinge → B's hinge                     B: hinge → rows
 *
 * The forward has a foreign server of its own: a transaction at A that has looked at B before keeps an older
 * view of B on its ordinary connection, and must not find the partition there. For the same reason B's own
 * hinge and A's ordinary one wait until every snapshot that was open on B at the swing is gone. In a move
 * whose source does not lead, all these steps are skipped.
 */
export interface LeaderInput extends PartitionRef {
  from: NodeId;
  to: NodeId;
}

type Context = StepContext<LeaderInput, LeaderData>;

/** The old leader, once the change has begun; undefined where this operation changes no leader. */
const begun = (c: Context) => c.data.source;
const epochOf = (c: Context) => must(c.data.epoch, 'epoch of the change');
const notMine = (c: Context) => begun(c) === undefined && partitionNow(c).leader !== c.input.from;
const placeOf = (c: Context, step: string, node: NodeId): Place => ({ ...refOf(c), step, node });
const IN_USE = 'a transaction that has used the partition is open';
const hasSwung = (c: Context) => partitionNow(c).epoch >= (c.data.epoch ?? Number.POSITIVE_INFINITY);

/** A failover has made somebody else the leader meanwhile: what is left of this change is the failover's. */
const superseded = (c: Context) => {
  const { epoch, leader } = partitionNow(c);
  return begun(c) !== undefined && (epoch > epochOf(c) || (epoch === epochOf(c) && leader !== c.input.to));
};

const beginChange: Step<LeaderInput, LeaderData> = {
  name: 'begin-change',
  done: async (c) => notMine(c) || begun(c) !== undefined,
  run: async (c) => {
    const partition = partitionNow(c);
    if (replicaOn(partition, c.input.to)?.state !== 'ready') {
      throw tideError('NOT_A_FOLLOWER', {
        partition: partitionKey(partition.tid, partition.pid),
        node: c.input.to,
        why: 'it has no replica in step with the leader',
      });
    }
    await c.remember({ source: partition.leader, epoch: partition.epoch + 1 });
    return DONE;
  },
  undo: nothingToUndo('only a note in the journal'),
};

/** The next leader has to reach every follower, the present leader included, before it leads. */
const connectTarget: Step<LeaderInput, LeaderData> = {
  name: 'connect-target',
  done: async (c) => notMine(c) || hasSwung(c),
  run: async (c) => {
    const late = (await leaveDeadBehind(c)) ?? (await leadTargetToSource(c));
    if (late) return late;
    // A replica that was removed while this node was away is still in its stream there: rows would come to a
    // table that is gone.
    for (const { id } of connectedNodes(c.view)) {
      if (id !== c.input.to && !replicaOn(partitionNow(c), id))
        await c.plane.streams.stopSending(c.input.to, id, refOf(c));
    }
    for (const follower of followersOf(partitionNow(c), c.input.to)) {
      const broken = await connectStream(c, c.input.to, follower);
      if (broken) return broken;
      await c.plane.streams.start(c.input.to, follower, [refOf(c)], false);
    }
    return DONE;
  },
  undo: nothingToUndo('streams among followers belong to the replicas, not to this change'),
};

/**
 * Clients of the target come through the source until its own hinge is turned. One that leads to an earlier
 * leader is pointed there first: that node may lead its own to the target as soon as this is the leader, and
 * statements would go in a circle.
 */
async function leadTargetToSource(c: Context): Promise<StepResult | null> {
  const source = must(begun(c), 'source');
  const { to } = c.input;
  const aim = await c.plane.hinges.read(to, refOf(c));
  if (aim?.kind !== 'node' || aim.node === source) return null;
  const others = isOut(c.view, aim.node) ? 'are-ended' : undefined;
  const way = { kind: 'node', node: source } as const;
  const place = placeOf(c, 'connect-target', to);
  const wait = others ? null : await oldHolder(c, place, IN_USE);
  if (wait) return wait;
  const attempt = await c.plane.hinges.point(to, tableOf(c), c.input.pid, way, budgetAt(c, place), others);
  await c.pause({ ...refOf(c), node: to, purpose: 'hinge', outcome: attempt.outcome, pauseMs: attempt.pauseMs });
  if (attempt.outcome === 'done') return null;
  if (others) await c.plane.sessions.endHolders(to, refOf(c));
  return backOff(c, place, 'lock');
}

/**
 * A follower that does not beat cannot follow two streams in order, and must not hold up the change: it is
 * taken out of the streams of both leaders and copied again when it is back. First no commit counts on it any
 * more: back too early, it would acknowledge rows that it is no longer sent.
 */
async function leaveDeadBehind(c: Context): Promise<StepResult | null> {
  const source = must(begun(c), 'source');
  const followers = followersOf(partitionNow(c), source).filter((n) => n !== c.input.to);
  const dead = followers.filter((n) => !c.alive(n));
  if (dead.length === 0) return null;
  const late = await protectPartition(c, source, { without: dead });
  if (late) return late;
  for (const node of dead) {
    // Before it is sent no more: cut off in between and back by then, it would count as having what it was
    // not sent.
    await c.commit({ kind: 'replica-changed', ...refOf(c), node, state: 'stale' });
    await c.plane.streams.stopSending(source, node, refOf(c));
    await c.plane.streams.stopSending(c.input.to, node, refOf(c));
    await c.event(
      'replica-stale',
      `${partitionKey(c.input.tid, c.input.pid)} on node ${node} does not answer and will be copied again`,
      node,
    );
  }
  return null;
}

/** From its first write on, the next leader has to acknowledge only what a follower has. */
const protectTarget: Step<LeaderInput, LeaderData> = {
  name: 'protect-target',
  done: async (c) => notMine(c) || hasSwung(c),
  run: async (c) => (await protectPartition(c, c.input.to)) ?? DONE,
  undo: async (c) => {
    await withdrawDemands(c, c.input.to);
    return DONE;
  },
};

const prepareForward: Step<LeaderInput, LeaderData> = {
  name: 'prepare-forward',
  done: async (c) => notMine(c) || hasSwung(c),
  run: async (c) => {
    const source = must(begun(c), 'source');
    await c.claim({ kind: 'forward', node: source, name: forwardName(c.input.tid, c.input.pid, epochOf(c)) });
    await c.plane.hinges.createForward(source, c.input.to, tableOf(c), c.input.pid, epochOf(c));
    await c.plane.replicas.setGuard(c.input.to, refOf(c), false);
    return DONE;
  },
  undo: async (c) => {
    const source = begun(c);
    if (source === undefined) return DONE;
    const { to } = c.input;
    const follows = replicaOn(partitionNow(c), to) !== undefined && partitionNow(c).leader !== to;
    if (follows && !isOut(c.view, to)) await c.plane.replicas.setGuard(to, refOf(c), true);
    if (!isOut(c.view, source)) await c.plane.hinges.dropForward(source, refOf(c), epochOf(c));
    return DONE;
  },
};

const swing: Step<LeaderInput, LeaderData> = {
  name: 'swing',
  noReturn: true,
  done: async (c) => {
    if (notMine(c) || hasSwung(c)) return true;
    const target = await c.plane.hinges.read(must(begun(c), 'source'), refOf(c));
    return target !== null && target.kind === 'forward' && target.epoch === epochOf(c);
  },
  run: async (c) => {
    const source = must(begun(c), 'source');
    const place = placeOf(c, 'swing', source);
    if (mayNotSwing(c, source)) return leaveUnswung(c, source);
    const unready = (await leaveDeadBehind(c)) ?? (await protectPartition(c, c.input.to));
    if (unready) return unready;
    const wait = (await oldHolder(c, place, IN_USE)) ?? (await lagging(c, place, followersOf(partitionNow(c), source)));
    if (wait) return wait;
    // Either node may have been out since, and its return drops loose forwards and guards what follows.
    if (c.data.tried) await prepareForward.run(c);
    else await c.remember({ tried: true });
    // Asked again after all that took its time, in the moment of the swing.
    if (mayNotSwing(c, source)) return leaveUnswung(c, source);
    const followers = followersOf(partitionNow(c), source);
    const budgetMs = budgetAt(c, place);
    const attempt = await c.plane.hinges.swing(source, refOf(c), { epoch: epochOf(c), followers, budgetMs });
    await c.pause({ ...refOf(c), node: source, purpose: 'leader', outcome: attempt.outcome, pauseMs: attempt.pauseMs });
    if (attempt.outcome === 'done') return DONE;
    return await backOff(c, place, attempt.why === 'lag' ? 'lag' : 'lock');
  },
  undo: nothingToUndo('nothing was changed before the commit, and behind it there is no undo'),
};

/**
 * The source is out, or has been taken back and the target has missed rows since, or others lead: nothing has
 * swung, and nothing may.
 */
function mayNotSwing(c: Context, source: NodeId): boolean {
  return hasSwung(c) || isOut(c.view, source) || replicaOn(partitionNow(c), c.input.to)?.state !== 'ready';
}

/**
 * A source that is out may be taken back, and then knows whether it has swung; or others lead in its place.
 */
async function leaveUnswung(c: Context, source: NodeId): Promise<StepResult> {
  // A failover has overtaken it: that is as good as done, and what is left of this goes on.
  if (hasSwung(c)) return again(20);
  if (isOut(c.view, source))
    return again(100, waitFor('node', `node ${source}, which leads, is out of service`, source));
  await c.cancel(c.id);
  return again(20);
}

/**
 * Tries the catch-up without the lock first. A follower that stays somewhat behind would be waited for for
 * ever: if it would catch up within the longest budget, that grows.
 */
async function lagging(c: Context, place: Place, followers: readonly NodeId[]): Promise<StepResult | null> {
  const source = place.node;
  const budgetMs = budgetAt(c, place);
  const marker = await c.plane.markers.write(source);
  const beganMs = c.clock.nowMs();
  const checks = followers.map(async (node) => {
    const mayTakeMs = pauseLimit(c.view.settings) / 3;
    const arrived = await c.plane.markers.arrives(node, source, marker, mayTakeMs).catch(passingAsFalse);
    return { node, tookMs: arrived ? c.clock.nowMs() - beganMs : Infinity };
  });
  const late = (await Promise.all(checks)).filter(({ tookMs }) => tookMs > budgetMs / 3);
  if (late.length === 0) return null;
  if (late.every(({ tookMs }) => tookMs < Infinity)) await nearlyCaughtUp(c, place);
  const names = late.map(({ node }) => `node ${node}`).join(', ');
  return again(
    100,
    waitFor('lag', `${names} would not catch up within a third of the ${budgetMs} ms budget`, late[0]?.node ?? null),
  );
}

function passingAsFalse(error: unknown): false {
  if (error instanceof TideError) return false;
  throw error;
}

/** The world has changed; now the catalog says so, under a higher epoch. */
const publishLeader: Step<LeaderInput, LeaderData> = {
  name: 'publish-leader',
  done: async (c) => begun(c) === undefined || superseded(c) || (hasSwung(c) && c.data.mark !== undefined),
  run: async (c) => {
    if (!hasSwung(c)) await c.commit({ kind: 'leader-changed', ...refOf(c), leader: c.input.to });
    // Before its event: a node that does not answer is asked again.
    if (!isOut(c.view, c.input.to)) await c.remember({ mark: await c.plane.sessions.snapshotMark(c.input.to) });
    await c.event(
      'leader-changed',
      `${partitionKey(c.input.tid, c.input.pid)}: node ${begun(c)} → node ${c.input.to}`,
      c.input.to,
    );
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

/** Points a hinge once nobody can look at the new leader with eyes from before the swing. */
function settle(
  name: string,
  at: (c: Context) => NodeId,
  to: (c: Context) => HingeTarget,
): Step<LeaderInput, LeaderData> {
  return {
    name,
    done: async (c) => {
      // A node that is out has its hinges pointed when it returns.
      if (begun(c) === undefined || superseded(c) || isOut(c.view, at(c))) return true;
      const target = await c.plane.hinges.read(at(c), refOf(c));
      return target !== null && target.kind === to(c).kind;
    },
    run: async (c) => {
      const place = placeOf(c, name, at(c));
      const { mark } = c.data;
      // Nobody marked a target that was out then: its sessions had ended.
      const [older] = mark === undefined ? [] : await c.plane.sessions.olderSnapshots(c.input.to, mark);
      if (older)
        return again(
          100,
          waitForTransaction(
            c.view.settings,
            c.input.to,
            older,
            'a transaction older than the change of leader is open',
          ),
        );
      const wait = await oldHolder(c, place, IN_USE);
      if (wait) return wait;
      const attempt = await c.plane.hinges.point(at(c), tableOf(c), c.input.pid, to(c), budgetAt(c, place));
      await c.pause({ ...refOf(c), node: at(c), purpose: 'hinge', outcome: attempt.outcome, pauseMs: attempt.pauseMs });
      return attempt.outcome === 'done' ? DONE : backOff(c, place, 'lock');
    },
    undo: nothingToUndo('behind the point of no return'),
  };
}

const settleSource = settle(
  'repoint-source',
  (c) => must(begun(c), 'source'),
  (c) => ({ kind: 'node', node: c.input.to }),
);

/**
 * After a failover the forward leads to rows that are old: whoever goes through it goes to where the
 * partition is led now.
 */
const repointSource: Step<LeaderInput, LeaderData> = {
  ...settleSource,
  done: async (c) => (await settleSource.done(c)) && !(superseded(c) && (await isForwarded(c))),
  run: async (c) => {
    if (!superseded(c)) return settleSource.run(c);
    const late = await pointPastDead(c, must(begun(c), 'source'), refOf(c));
    return late ? again(100, late) : DONE;
  },
};

/** Where the source leads again, or is out, its hinge is the failover's, or of its return. */
async function isForwarded(c: Context): Promise<boolean> {
  const source = must(begun(c), 'source');
  if (isOut(c.view, source) || partitionNow(c).leader === source) return false;
  const target = await c.plane.hinges.read(source, refOf(c));
  return target?.kind === 'forward' && target.epoch === epochOf(c);
}

const dropForward: Step<LeaderInput, LeaderData> = {
  name: 'drop-forward',
  done: async (c) => begun(c) === undefined || isOut(c.view, must(begun(c), 'source')),
  run: async (c) => {
    await c.plane.hinges.dropForward(must(begun(c), 'source'), refOf(c), epochOf(c));
    return DONE;
  },
  undo: nothingToUndo('behind the point of no return'),
};

export const changeLeaderSteps: readonly Step<LeaderInput, LeaderData>[] = [
  beginChange,
  connectTarget,
  protectTarget,
  prepareForward,
  swing,
  publishLeader,
  settle(
    'localise-target',
    (c) => c.input.to,
    () => ({ kind: 'local' }),
  ),
  repointSource,
  dropForward,
];
