import type { ClusterView, NodeId } from '../catalog/model.ts';
import { connectedNodes } from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Parts } from './parts.ts';

/** What a manager begins again and again. */
interface Round {
  /** From the end of one to the beginning of the next. */
  readonly everyMs: number;
  readonly work: () => Promise<void> | void;
  /** How it is logged that one has failed. */
  readonly failed: { readonly level: 'warn' | 'error'; readonly message: string };
  /** Until what it has begun in the background has ended. */
  readonly idle?: () => Promise<unknown>;
  /** It needs not wait until everybody was heard. */
  readonly atOnce?: true;
}

export interface RoundsOptions {
  view(): ClusterView;
  /** Everybody was heard, and every operation goes on. */
  informed: Promise<void>;
  clock: Clock;
  signal: AbortSignal;
  log(level: 'warn' | 'error', message: string, facts: object): void;
}

/**
 * All rounds of a manager, beside each other, until `signal` ends them and what they have begun: what one
 * waits for holds up no other.
 */
export async function keepRounds(parts: Parts, options: RoundsOptions): Promise<void> {
  await Promise.all(roundsOf(parts, options.view).map((round) => keep(round, options)));
}

async function keep(round: Round, { informed, clock, signal, log }: RoundsOptions): Promise<void> {
  const { everyMs, work, failed, idle, atOnce } = round;
  if (!atOnce) await informed;
  while (!signal.aborted) {
    try {
      await work();
    } catch (error) {
      if (!signal.aborted) log(failed.level, failed.message, { error: messageOf(error) });
    }
    await clock.sleep(everyMs, signal);
  }
  await idle?.();
}

function roundsOf(parts: Parts, view: () => ClusterView): Round[] {
  const { outageWatch, runner, roleKeeper } = parts;
  return [
    {
      everyMs: 500,
      work: () => bringInOrder(parts, view),
      failed: { level: 'error', message: 'manager round failed' },
      atOnce: true,
    },
    // A failover must not wait for servers that anything else waits for.
    { everyMs: 150, work: () => outageWatch.round(), failed: { level: 'error', message: 'watch failed' } },
    {
      // A node that is dead holds up writes of two-replica tables this much longer than it takes to be
      // noticed.
      everyMs: 300,
      work: () => runner.quorums.round(),
      failed: { level: 'error', message: 'quorums are as they were' },
      idle: () => runner.quorums.idle(),
    },
    {
      // A disk fills by some hundred MB in this time. A slow node fills those of others.
      everyMs: 1_000,
      work: () => keepStreams(parts, view),
      failed: { level: 'error', message: 'streams were not looked at' },
      idle: () => idleStreams(parts),
    },
    {
      everyMs: 1_000,
      work: () => roleKeeper.round(),
      failed: { level: 'warn', message: 'roles are as they were' },
      idle: () => roleKeeper.idle(),
    },
  ];
}

async function bringInOrder({ membership, reconciler, load, balancer, runner }: Parts, view: () => ClusterView) {
  const before = view();
  await membership.tellOfSilence();
  await membership.forgetUnjoined();
  await reconciler.round();
  if (load.measured(before)) await balancer.round(runner, view(), load.view(view()));
}

async function keepStreams(parts: Parts, view: () => ClusterView): Promise<void> {
  const { load, walKeeper, streamKeeper, applyKeeper, history, storeWatch } = parts;
  const live = connectedNodes(view()).filter((n) => n.state !== 'joining' && load.alive(n.id));
  const nodes: NodeId[] = live.map((n) => n.id);
  load.measure(view());
  walKeeper.round(nodes);
  streamKeeper.round(nodes);
  applyKeeper.round(nodes);
  history.round();
  await storeWatch.round();
}

async function idleStreams({ load, walKeeper, streamKeeper, applyKeeper, history }: Parts): Promise<void> {
  const atWork = [walKeeper, streamKeeper, applyKeeper, load.measurements, history];
  await Promise.all(atWork.map((work) => work.idle()));
}
