import { passes } from '../../catalog/apply-failures.ts';
import type { NodeId } from '../../catalog/model.ts';
import { partitionTable } from '../../catalog/names.ts';
import { followersOf } from '../../catalog/quorum.ts';
import { hasLeft, isOut, partitionKey, replicaOn } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import { tideError } from '../../core/errors.ts';
import type { CopyData } from '../data.ts';
import { again, DONE, giveUp, nothingToUndo, type Step, type StepContext, type StepResult } from '../operation.ts';
import type { PartitionRef } from '../ports.ts';
import { waitFor, waitForTransaction } from '../waiting.ts';
import {
  awaitArrivals,
  connectStream,
  disconnectIdlePairs,
  endOutStreams,
  endStream,
  failoverOf,
  partitionNow,
  refOf,
  sendersTo,
  stopStream,
  tableOf,
} from './partition.ts';
import { protectPartition, withdrawDemands } from './protect.ts';
import { awaitRoom, requireLittleWal, requireRoom } from './room.ts';

/**
 * docs/spec/moves.md, M2: claim → make the table → connect the nodes → copy and catch up → connect the other
 * followers → count it. PostgreSQL's own table synchronisation copies and catches up; a marker written
 * afterwards proves that the stream has arrived.
 */
export interface AddInput extends PartitionRef {
  to: NodeId;
}

type Context = StepContext<AddInput, CopyData>;

const stateOn = (c: Context) => replicaOn(partitionNow(c), c.input.to)?.state;

/** Undone as far as `count-replica`, and the replica counts still: a failover needed it. So it stays. */
const unlessItCounts =
  (undo: (c: Context) => Promise<StepResult>) =>
  async (c: Context): Promise<StepResult> =>
    stateOn(c) === 'ready' ? DONE : undo(c);

const claimReplica: Step<AddInput, CopyData> = {
  name: 'claim-replica',
  done: async (c) => stateOn(c) === 'joining' || stateOn(c) === 'ready',
  run: async (c) => {
    const late = await awaitClearing(c);
    if (late) return late;
    await c.claim({ kind: 'replica-table', node: c.input.to, name: partitionTable(c.input.tid, c.input.pid) });
    const { state } = must(c.view.nodes.get(c.input.to), 'target');
    // Asked for in the moment when it was decided that it leaves.
    if (state !== 'active')
      return giveUp(tideError('NODE_NOT_ELIGIBLE', { node: c.input.to, state, what: 'take a replica' }));
    await c.commit({ kind: 'replica-added', ...refOf(c), node: c.input.to, state: 'joining' });
    return DONE;
  },
  undo: unlessItCounts(async (c) => {
    if (stateOn(c) !== undefined) await c.commit({ kind: 'replica-removed', ...refOf(c), node: c.input.to });
    // Asked for when it had left already: nothing was made there.
    if (hasLeft(c.view, c.input.to)) return DONE;
    // A target that was out when its table was to go may be back, and was told that the catalog wanted it.
    const late = await dropCopy(c);
    if (late) return late;
    await disconnectIdlePairs(c, c.input.to);
    return DONE;
  }),
};

/**
 * Null unless the target still has what an earlier copy has left there: it goes, or rows would be copied into
 * it.
 */
async function awaitClearing(c: Context): Promise<StepResult | null> {
  const { to } = c.input;
  const recovery = c.running().find((r) => r.kind === 'recover-node' && r.input.node === to);
  if (!recovery || !(await c.plane.replicas.exists(to, refOf(c)))) return null;
  return again(
    200,
    waitFor('lock', `operation ${recovery.id} (recover-node node ${to}) has yet to clear its place`, to),
  );
}

/**
 * Null once the target has no table, or is out: it loses what the catalog does not know when it returns. Else
 * what has to be waited for.
 */
async function dropCopy(c: Context): Promise<StepResult | null> {
  const { to } = c.input;
  if (isOut(c.view, to) || !(await c.plane.replicas.exists(to, refOf(c)))) return null;
  // A target that was away when its copy was ended has still to be told; while it copies, the table cannot be
  // dropped.
  for (const other of sendersTo(c, to).filter((n) => c.alive(n))) await stopStream(c, other, to, refOf(c));
  const late = await awaitArrivals(c, to, sendersTo(c, to));
  if (late) return late;
  await c.plane.replicas.drop(to, refOf(c));
  return null;
}

const createReplicaTable: Step<AddInput, CopyData> = {
  name: 'create-replica-table',
  done: (c) => c.plane.replicas.exists(c.input.to, refOf(c)),
  run: async (c) => {
    await c.plane.replicas.create(c.input.to, tableOf(c), c.input.pid);
    return DONE;
  },
  undo: unlessItCounts(async (c) => (await dropCopy(c)) ?? DONE),
};

const connectNodes: Step<AddInput, CopyData> = {
  name: 'connect-nodes',
  done: async () => false,
  run: async (c) => {
    for (const other of sendersTo(c, c.input.to)) {
      const slow = await connect(c, other);
      if (slow) return slow;
    }
    return DONE;
  },
  undo: nothingToUndo('streams without a partition in common go when the replica is removed from the catalog'),
};

/** Streams between the new replica's node and another, both ways; else what their slots have to wait for. */
async function connect(c: Context, other: NodeId): Promise<StepResult | null> {
  const slow = await slotBlocker(c, other);
  if (slow) return slow;
  return (await connectStream(c, other, c.input.to)) ?? (await connectStream(c, c.input.to, other));
}

/**
 * Making a slot waits for every older write transaction of that server; better to name it than to hang in
 * CREATE SUBSCRIPTION.
 */
async function slotBlocker(c: Context, other: NodeId) {
  if ((await c.plane.streams.exists(other, c.input.to)) && (await c.plane.streams.exists(c.input.to, other)))
    return null;
  for (const node of [other, c.input.to]) {
    const writer = await c.plane.sessions.oldestWriter(node);
    if (writer) {
      return again(500, {
        ...waitForTransaction(c.view.settings, node, writer, 'a replication slot starts when it ends'),
        kind: 'slot',
      });
    }
  }
  return null;
}

const copyRows: Step<AddInput, CopyData> = {
  name: 'copy-rows',
  done: async (c) => c.alive(c.input.to) && (await isFed(c)),
  run: async (c) => {
    const leader = partitionNow(c).leader;
    // Before the target is asked for anything: it may have ended for want of room.
    const tooMuch = await requireMeans(c);
    if (tooMuch) return tooMuch;
    const [copied, total] = await Promise.all([
      c.plane.replicas.bytes(c.input.to, refOf(c)),
      c.plane.replicas.bytes(leader, refOf(c)),
    ]);
    const state = await c.plane.streams.state(leader, c.input.to, refOf(c));
    c.progress(state === 'ready' ? total : Math.min(copied, total), total);
    if (state === 'ready') return DONE;
    if (state === 'none') return beginCopy(c, leader);
    if (!(await c.plane.streams.isWhole(leader, c.input.to))) return regainStream(c);
    await rememberCopy(c, leader);
    // A quiet stream hands over only when something passes through it.
    await c.plane.markers.write(leader);
    const failure = failedCopy(c, leader);
    if (failure) return failure;
    const writer = await c.plane.sessions.oldestWriter(leader);
    if (writer) {
      return again(300, {
        ...waitForTransaction(c.view.settings, leader, writer, "the copy's snapshot may have to wait for it"),
        kind: 'slot',
      });
    }
    return again(150, waitFor('copy', `copying from node ${leader}`, c.input.to));
  },
  undo: unlessItCounts(async (c) => {
    const leader = partitionNow(c).leader;
    const slot = c.data.copySlot;
    // First the receiver, which would make its slot again; one that has gone has not taken its slot along.
    await endStream(c, leader, c.input.to);
    if (slot !== undefined && !isOut(c.view, leader)) await c.plane.slots.drop(leader, slot);
    return (await endOutCopy(c)) ?? DONE;
  }),
};

/**
 * A copy that PostgreSQL begins over and over again is given up after this time: whoever wants it tries again
 * after pauses.
 */
const COPY_FAILS_MS = 15_000;

/** Null where the copy does not fail; else with PostgreSQL's reason. */
function failedCopy(c: Context, leader: NodeId): StepResult | null {
  const { to } = c.input;
  const failure = c.copyFailure(leader, to, refOf(c));
  if (!failure) return null;
  const { message, tries, forMs } = failure;
  if (forMs >= COPY_FAILS_MS && !passes(failure))
    return giveUp(tideError('COPY_FAILED', { from: leader, to, tries, why: message }));
  return again(200, waitFor('copy', `the copy from node ${leader} fails (${tries} tries): ${message}`, to));
}

/**
 * Null once no copy from a node that is out is under way: a failover of that node, if there is one, chooses
 * before.
 */
async function endOutCopy(c: Context): Promise<StepResult | null> {
  const from = c.data.copyFrom ?? partitionNow(c).leader;
  const late = isOut(c.view, c.input.to) ? null : await endOutStreams(c, [from], c.input.to);
  const node = late?.kind === 'again' ? late.waitsFor?.node : undefined;
  if (late && c.data.awaitsLeader !== node) await c.remember({ awaitsLeader: node });
  return late;
}

/**
 * Null while both ends can afford the copy; a target that waits for its copy to begin has time (`beginCopy`).
 */
async function requireMeans(c: Context): Promise<StepResult | null> {
  const full = c.data.copySlot === undefined ? null : requireRoom(c, c.input.to);
  return full ?? (await requireLittleWal(c, partitionNow(c).leader, c.input.to, c.data.copySlot ?? null));
}

async function isFed(c: Context): Promise<boolean> {
  const { leader } = partitionNow(c);
  const { to } = c.input;
  return (await c.plane.streams.isWhole(leader, to)) && (await c.plane.streams.state(leader, to, refOf(c))) === 'ready';
}

/**
 * What becomes of a replica whose stream does not flow: one that was only disabled goes on; in any other it
 * has missed rows, unless they are being compared by a failover, which says what is next.
 */
async function regainStream(c: Context): Promise<StepResult> {
  const { leader } = partitionNow(c);
  const { to } = c.input;
  const whole = await c.plane.streams.isWhole(leader, to);
  // Asked in the moment in which it would go on, and until another leads.
  if (isOut(c.view, leader) || failoverOf(c, leader))
    return again(100, waitFor('node', `node ${leader}, which leads, is failed over`, leader));
  if (!whole && (await c.plane.streams.resume(leader, to))) return again(20);
  return giveUp(tideError('STREAM_LOST', { from: leader, to }));
}

async function beginCopy(c: Context, leader: NodeId): Promise<StepResult> {
  // Its rows, or part of them, are there: copied into them it would never end.
  if (c.data.copySlot !== undefined) return regainStream(c);
  const noRoom = await awaitRoom(c, c.input.to);
  if (noRoom) return noRoom;
  // Asked for before: once the copy runs, a target that goes silent must not keep its slot's name to itself.
  const copySlot = await c.plane.slots.ofCopy(leader, c.input.to, refOf(c));
  await c.remember({ copyFrom: leader });
  // Given up before, for what had been on its way: all that is over with the copy.
  if (stateOn(c) === 'stale')
    await c.commit({ kind: 'replica-changed', ...refOf(c), node: c.input.to, state: 'joining' });
  await c.plane.streams.start(leader, c.input.to, [refOf(c)], true);
  await c.remember({ copySlot });
  return again(100, waitFor('copy', 'the copy starts', c.input.to));
}

async function rememberCopy(c: Context, leader: NodeId): Promise<void> {
  if (c.data.copySlot !== undefined) return;
  await c.remember({ copySlot: await c.plane.slots.ofCopy(leader, c.input.to, refOf(c)) });
}

/**
 * Somebody else's word, or a slot that PostgreSQL gave up, may have ended the stream: what came after that is
 * not here.
 */
async function requireFed(c: Context): Promise<StepResult | null> {
  const tooMuch = await requireMeans(c);
  if (tooMuch || (await isFed(c))) return tooMuch;
  return regainStream(c);
}

const catchUp: Step<AddInput, CopyData> = {
  name: 'catch-up',
  done: async (c) => stateOn(c) === 'ready',
  run: async (c) => {
    const leader = partitionNow(c).leader;
    const lost = await requireFed(c);
    if (lost) return lost;
    const bytes = await c.plane.replicas.bytes(c.input.to, refOf(c));
    c.progress(bytes, bytes);
    const marker = await c.plane.markers.write(leader);
    if (await c.plane.markers.arrives(c.input.to, leader, marker, 2_000)) return DONE;
    return again(200, waitFor('lag', `node ${c.input.to} has not caught up with node ${leader}`, c.input.to));
  },
  undo: nothingToUndo('waiting changes nothing'),
};

/** Null once the streams are there; else what has to be waited for. */
async function joinFollowers(c: Context): Promise<StepResult | null> {
  const { to } = c.input;
  for (const other of followersOf(partitionNow(c), to).filter((n) => c.alive(n))) {
    // What the leader sends it must never be begun anew here: what came meanwhile would be missing for ever,
    // and it would count.
    const isLeader = other === partitionNow(c).leader;
    // It may have been away when the nodes were connected, and be back now.
    const slow = isLeader ? await connectStream(c, to, other) : await connect(c, other);
    if (slow) return slow;
    await c.plane.streams.start(to, other, [refOf(c)], false);
    if (!isLeader) await c.plane.streams.start(other, to, [refOf(c)], false);
  }
  return null;
}

/**
 * Streams between the new replica and the other followers, both ways: any of them may lead next. They carry
 * nothing now, so nothing is copied. A follower that does not answer is left out; a change of leader looks
 * again.
 */
const connectFollowers: Step<AddInput, CopyData> = {
  name: 'connect-followers',
  done: async (c) => stateOn(c) === 'ready',
  run: async (c) => (await joinFollowers(c)) ?? DONE,
  undo: unlessItCounts(async (c) => {
    for (const other of sendersTo(c, c.input.to)) {
      await endStream(c, c.input.to, other);
      await endStream(c, other, c.input.to);
    }
    return DONE;
  }),
};

const countReplica: Step<AddInput, CopyData> = {
  name: 'count-replica',
  done: async (c) => stateOn(c) === 'ready',
  run: async (c) => {
    // Whoever counts on it may promote it: the first commit after this is one that it may have to have.
    const late = (await protectPartition(c, partitionNow(c).leader, { with: [c.input.to] })) ?? (await requireFed(c));
    if (late) return late;
    // Whoever takes it out of its stream has made it stale before, perhaps since it was looked at.
    await c.commit({ kind: 'replica-changed', ...refOf(c), node: c.input.to, state: 'ready', was: 'joining' });
    if (stateOn(c) !== 'ready') return regainStream(c);
    await c.event(
      'replica-added',
      `${partitionKey(c.input.tid, c.input.pid)} has a replica on node ${c.input.to}`,
      c.input.to,
    );
    return DONE;
  },
  undo: async (c) => {
    const { leader } = partitionNow(c);
    if (leader === c.input.to || stateOn(c) !== 'ready') return DONE;
    if (!c.alive(leader)) {
      // Commits may be here that no other follower has: a failover, if there is one, chooses before this
      // replica goes.
      if (c.data.awaitsLeader !== leader) await c.remember({ awaitsLeader: leader });
      return again(100, waitFor('node', `node ${leader}, the leader, is away`, leader));
    }
    const late = await protectPartition(c, leader, { without: [c.input.to] });
    if (late) return late;
    await c.commit({ kind: 'replica-changed', ...refOf(c), node: c.input.to, state: 'joining' });
    await withdrawDemands(c, leader);
    return DONE;
  },
};

/**
 * A follower that came back before the replica counted has not looked for its streams; one that comes back
 * after this does.
 */
const connectReturned: Step<AddInput, CopyData> = {
  name: 'connect-returned',
  done: async (c) => stateOn(c) !== 'ready' || isOut(c.view, c.input.to),
  run: async (c) => (await joinFollowers(c)) ?? DONE,
  undo: nothingToUndo('the streams go with those that were started before'),
};

export const addReplicaSteps: readonly Step<AddInput, CopyData>[] = [
  claimReplica,
  createReplicaTable,
  connectNodes,
  copyRows,
  catchUp,
  connectFollowers,
  countReplica,
  connectReturned,
];
