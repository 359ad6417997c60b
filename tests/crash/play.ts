import { setTimeout as sleep } from 'node:timers/promises';
import { must } from '../../src/core/assert.ts';
import { messageOf } from '../../src/core/errors.ts';
import { untilEnded } from '../support/operations.ts';
import { type Boundary, nameOf } from './boundaries.ts';
import type { Cast, Role, Scenario } from './scenarios.ts';
import { type Configuration, MANAGER, NODES, type Stage } from './stage.ts';

/** Who is killed with SIGKILL. */
export const VICTIMS = ['manager', 'source-process', 'source-postgres', 'target-process', 'target-postgres'] as const;
export type Victim = (typeof VICTIMS)[number];

export interface Case {
  readonly boundary: Boundary;
  readonly scenario: Scenario;
  readonly victim: Victim;
}

export interface Played {
  readonly status: string;
  /** Writes acknowledged from the kill to the end. */
  readonly acknowledged: number;
  readonly wrong: readonly string[];
  readonly ms: number;
}

const ENDED_MS = 60_000;
const STARTED_MS = 100_000;
const DEAD_MS = 200;
const AFTER_MS = 200;
/** In this time a request has come to the manager. */
const ASKED_MS = 200;

export const roleOf = (victim: Victim): Role | null =>
  victim === 'manager' ? null : (victim.slice(0, victim.indexOf('-')) as Role);

export const titleOf = ({ boundary, scenario: { name }, victim }: Case) =>
  `${nameOf(boundary)}${name === undefined ? '' : ` (${name})`} × ${victim}`;

/**
 * One operation under load, stopped at the boundary, somebody killed there, and then the proof: it ends done
 * or undone as its point of no return says, everything acknowledged is there, replicas equal their leaders,
 * the doctor finds nothing. To come to an undo it is cancelled first; then all is as it was before. Throws
 * where the case could not be played.
 */
export async function play(stage: Stage, { boundary, scenario, victim }: Case): Promise<Played> {
  const beganMs = performance.now();
  await stage.untilQuiet();
  const cast = await scenario.prepare(stage);
  const before = await stage.configuration();
  const { load } = stage;
  // Whichever statement fails may have met the fault; one that answers has to be right at any moment.
  load.expect({ through: NODES, pids: [] });
  load.start(NODES);
  stage.arm(nameOf({ ...boundary, moment: boundary.cancelledAt ?? boundary.moment }));
  let failure: string | null = null;
  const started = cast.start().catch((error: unknown) => {
    failure = messageOf(error);
  });
  try {
    const id = await stage.untilHit(() => failure);
    if (boundary.cancelledAt !== null) await cancel(stage, id, boundary);
    const acknowledgedBefore = load.acknowledged;
    const revive = await kill(stage, victim, cast);
    stage.release();
    await sleep(DEAD_MS);
    await revive();
    const { status } = await untilEnded(stage.cluster, id, ENDED_MS);
    const begun = () => within(STARTED_MS, started, 'what brought the operation about');
    if (boundary.ends !== 'cancelled') await begun();
    await sleep(AFTER_MS);
    await until('write acknowledged after the kill', async () => load.acknowledged > acknowledgedBefore);
    const acknowledged = load.acknowledged - acknowledgedBefore;
    await load.stop();
    const wrong = [...load.failures.splice(0)];
    if (boundary.ends !== null && status !== boundary.ends) wrong.push(`it is ${status}, not ${boundary.ends}`);
    // First this: a server that has just been killed may be taken for live, and all for quiet, until its node
    // says otherwise.
    await until('server that takes statements on every node', () => stage.isServing(cast.away));
    if (cast.away === undefined) await stage.untilQuiet();
    wrong.push(...((await cast.outcome?.(status === 'done')) ?? []));
    if (boundary.ends === 'cancelled' && scenario.undoneDiffers === undefined)
      wrong.push(...(await unlike(stage, before, id)));
    await cast.restore?.();
    // Who joins in vain has been stopped by then.
    if (boundary.ends === 'cancelled') await begun();
    await stage.untilQuiet();
    wrong.push(...(await stage.wrong()));
    return { status, acknowledged, wrong, ms: performance.now() - beganMs };
  } finally {
    stage.release();
    await load.stop();
  }
}

/** Has the operation that stands at `cancelledAt` cancelled, and comes back when it stands in its undo. */
async function cancel(stage: Stage, id: number, boundary: Boundary): Promise<void> {
  const asked = stage.cluster.admin({ do: 'op-cancel', id });
  // The cancel waits behind the record that is held up, and is the first to be written after it.
  const goOn = sleep(ASKED_MS).then(() => stage.goOnTo(nameOf(boundary), boundary.cancelledAt === 'effect'));
  await Promise.all([asked, goOn]);
  const undoing = await stage.untilHit(() => null);
  if (undoing !== id) throw new Error(`operation ${undoing} came to the boundary, not ${id}`);
}

/** What is not as it was. Whom a failover has made the leader meanwhile keeps what it has. */
async function unlike(stage: Stage, before: Configuration, since: number): Promise<string[]> {
  const after = await stage.configuration();
  const failedOver = await stage.hasFailedOver(since);
  const sides = (['nodes', 'replicas'] as const).filter((what) => what === 'nodes' || !failedOver);
  return sides.flatMap((what) => [
    ...before[what].filter((line) => !after[what].includes(line)).map((line) => `not as before: ${line}, no more`),
    ...after[what].filter((line) => !before[what].includes(line)).map((line) => `not as before: ${line}, now`),
  ]);
}

/** Comes back when the victim is dead. What it gives brings it back to life, where nobody else does. */
async function kill(stage: Stage, victim: Victim, cast: Cast): Promise<() => Promise<void>> {
  const { cluster } = stage;
  const role = roleOf(victim);
  const node = role === null ? MANAGER : must(cast[role], `${role} of the case`);
  // One that joins is told its number a moment before its operation begins.
  await until(`node ${node} that knows its number`, async () => cluster.nodes.some((n) => n.id === node));
  if (victim.endsWith('postgres')) {
    const pid = must(cluster.node(node).postgresProcessId, `server of node ${node}`);
    cluster.node(node).killPostgres();
    // Its own node starts it again.
    return () => until(`server of node ${node} again`, async () => cluster.node(node).postgresProcessId !== pid);
  }
  if (!cluster.node(node).isRunning) throw new Error(`node ${node}, the ${victim}, does not run`);
  await cluster.node(node).kill();
  return async () => {
    // One that has left meanwhile has nothing to come back to.
    const row = (await cluster.admin({ do: 'node-status' }).catch(() => [])).find((n) => n.id === node);
    if (row?.state === 'decommissioned') return;
    await cluster
      .node(node)
      .restart()
      .catch((error) => {
        // It has left in this moment.
        if (!messageOf(error).includes('STORE_DECOMMISSIONED')) throw error;
      });
  };
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const untilMs = performance.now() + ENDED_MS;
  while (!(await holds())) {
    if (performance.now() > untilMs) throw new Error(`no ${what} after ${ENDED_MS / 1000} s`);
    await sleep(20);
  }
}

async function within(ms: number, work: Promise<unknown>, what: string): Promise<void> {
  const late = new AbortController();
  const timer = sleep(ms, 'late', { signal: late.signal }).catch(() => null);
  const first = await Promise.race([work, timer]);
  late.abort();
  if (first === 'late') throw new Error(`${what} has not ended after ${ms / 1000} s`);
}
