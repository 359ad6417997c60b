import { setTimeout as sleep } from 'node:timers/promises';
import { must } from '../../src/core/assert.ts';
import { messageOf } from '../../src/core/errors.ts';
import { untilEnded } from '../fault/support/checks.ts';
import { type Boundary, nameOf } from './boundaries.ts';
import type { Cast, Role, Scenario } from './scenarios.ts';
import { MANAGER, NODES, type Stage } from './stage.ts';

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

export const roleOf = (victim: Victim): Role | null =>
  victim === 'manager' ? null : (victim.slice(0, victim.indexOf('-')) as Role);

export const titleOf = ({ boundary, victim }: Case) => `${nameOf(boundary)} × ${victim}`;

/**
 * One operation under load, stopped at the boundary, somebody killed there, and then the proof: it ends done or undone as its point of no
 * return says, everything acknowledged is there, replicas equal their leaders, the doctor finds nothing. Throws where the case could not
 * be played.
 */
export async function play(stage: Stage, { boundary, scenario, victim }: Case): Promise<Played> {
  const beganMs = performance.now();
  await stage.untilQuiet();
  const cast = await scenario.prepare(stage);
  const { load } = stage;
  // Whichever statement fails may have met the fault; one that answers has to be right at any moment.
  load.expect({ through: NODES, pids: [] });
  load.start(NODES);
  stage.arm(nameOf(boundary));
  let failure: string | null = null;
  const started = cast.start().catch((error: unknown) => {
    failure = messageOf(error);
  });
  try {
    const id = await stage.untilHit(() => failure);
    const acknowledgedBefore = load.acknowledged;
    const revive = await kill(stage, victim, cast);
    stage.release();
    await sleep(DEAD_MS);
    await revive();
    const { status } = await untilEnded(stage.cluster, id, ENDED_MS);
    await within(STARTED_MS, started, 'what brought the operation about');
    await sleep(AFTER_MS);
    await until('write acknowledged after the kill', async () => load.acknowledged > acknowledgedBefore);
    const acknowledged = load.acknowledged - acknowledgedBefore;
    await load.stop();
    const wrong = [...load.failures.splice(0)];
    if (boundary.mustBeDone && status !== 'done') wrong.push(`it is ${status} behind its point of no return`);
    // First this: a server that has just been killed may be taken for live, and all for quiet, until its node says otherwise.
    await until('server that takes statements on every node', () => stage.isServing(cast.away));
    if (cast.away === undefined) await stage.untilQuiet();
    wrong.push(...((await cast.outcome?.(status === 'done')) ?? []));
    await cast.restore?.();
    await stage.untilQuiet();
    wrong.push(...(await stage.wrong()));
    return { status, acknowledged, wrong, ms: performance.now() - beganMs };
  } finally {
    stage.release();
    await load.stop();
  }
}

/** Comes back when the victim is dead. What it gives brings it back to life, where nobody else does. */
async function kill(stage: Stage, victim: Victim, cast: Cast): Promise<() => Promise<void>> {
  const { cluster } = stage;
  const role = roleOf(victim);
  const node = role === null ? MANAGER : must(cast[role], `${role} of the case`);
  // One that joins is told its number a moment before its operation begins.
  await until(`node ${node} that knows its number`, async () => cluster.nodes.some((n) => n.id === node));
  if (victim.endsWith('postgres')) {
    const pid = must(cluster.postgresPid(node), `server of node ${node}`);
    cluster.killPostgres(node);
    // Its own node starts it again.
    return () => until(`server of node ${node} again`, async () => cluster.postgresPid(node) !== pid);
  }
  if (!cluster.isRunning(node)) throw new Error(`node ${node}, the ${victim}, does not run`);
  await cluster.killNode(node);
  return async () => {
    // One that has left meanwhile has nothing to come back to.
    const row = (await cluster.admin({ do: 'node-status' }).catch(() => [])).find((n) => n.id === node);
    if (row?.state === 'decommissioned') return;
    await cluster.restartNode(node).catch((error) => {
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
