import type { ClusterView, NodeId } from '../catalog/model.ts';
import { subscriptionName } from '../catalog/names.ts';
import { fedThrough } from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { Rounds } from '../core/rounds.ts';
import type { Streams } from '../operations/ports.ts';
import type { Inspector, ReceivedStream } from './ports.ts';

export interface StreamPorts {
  plane: { streams: Pick<Streams, 'renew'> };
  inspector: Pick<Inspector, 'received'>;
  clock: Clock;
  view(): ClusterView;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
  /** A node has to be given the streams it lacks. */
  reconnect(node: NodeId): void;
}

/** PostgreSQL begins a stream that has ended again after a fifth of a second. */
const IDLE_MS = 3_000;
/**
 * One that stands still though it was renewed lacks something else, e.g. a worker that is free: tried again
 * after twice the time.
 */
const IDLE_MS_MAX = 300_000;
/**
 * Between two looks, at the most; what was in between longer, e.g. while its sender was away, may have been
 * anything.
 */
const GAP_MS = 2_500;

/** What replicas count on and nobody receives: somebody has taken it away or disabled it by hand. */
const MISSING: ReceivedStream = { runs: false, failures: -1 };

/** A stream that did not run at any look since a moment, and how long that may last. */
interface Idle {
  readonly sinceMs: number;
  readonly seenMs: number;
  readonly failures: number;
  readonly mayMs: number;
}

/**
 * Gives streams that their receivers do not begin again a new start. PostgreSQL waits for its clock to pass
 * the last one, for hours where that has been set back (`postgres/sql/renewal.ts`): without the follower's
 * answers the leader's commits would wait as long. A stream that fails at what it receives has begun, and is
 * none of these. One that is not there at all has lost rows: the reconciler gives up what it fed.
 */
export class StreamKeeper {
  readonly #ports: StreamPorts;
  readonly #rounds: Rounds<NodeId>;
  /** By the stream's name. */
  readonly #idle = new Map<string, Idle>();

  constructor(ports: StreamPorts) {
    this.#ports = ports;
    this.#rounds = new Rounds((node, error) =>
      ports.log('warn', 'the streams of a node could not be looked at', { node, error: messageOf(error) }),
    );
  }

  /** Looks at what `nodes`, all alive, receive from each other. */
  round(nodes: readonly NodeId[]): void {
    this.#rounds.begin(nodes, (node) => this.#look(node, nodes));
  }

  idle(): Promise<void> {
    return this.#rounds.idle();
  }

  async #look(to: NodeId, senders: readonly NodeId[]): Promise<void> {
    const received = await this.#ports.inspector.received(to);
    for (const from of senders.filter((n) => n !== to)) {
      const name = subscriptionName(from, to);
      const stream = received.get(name) ?? (fedThrough(this.#ports.view(), from, to).length > 0 ? MISSING : undefined);
      const idle = this.#idleNow(name, stream);
      if (idle === null || idle.seenMs - idle.sinceMs < idle.mayMs) continue;
      this.#idle.set(name, { ...idle, sinceMs: idle.seenMs, mayMs: Math.min(2 * idle.mayMs, IDLE_MS_MAX) });
      if (stream === MISSING) this.#ports.reconnect(to);
      else await this.#renew(from, to, idle.seenMs - idle.sinceMs);
    }
  }

  /** Null for a stream that runs. */
  #idleNow(name: string, stream: ReceivedStream | undefined): Idle | null {
    if (!stream || stream.runs) {
      this.#idle.delete(name);
      return null;
    }
    const seenMs = this.#ports.clock.nowMs();
    const before = this.#idle.get(name);
    const goesOn = before?.failures === stream.failures && seenMs - before.seenMs <= GAP_MS;
    const idle = goesOn
      ? { ...before, seenMs }
      : { sinceMs: seenMs, seenMs, failures: stream.failures, mayMs: IDLE_MS };
    this.#idle.set(name, idle);
    return idle;
  }

  async #renew(from: NodeId, to: NodeId, idleMs: number): Promise<void> {
    const { plane, event, log, reconnect } = this.#ports;
    try {
      if (!(await plane.streams.renew(from, to))) return;
    } catch (error) {
      log('warn', 'a stream could not be renewed', { from, to, error: messageOf(error) });
      // Cut off in between it may be left without either.
      return reconnect(to);
    }
    const text = `PostgreSQL of node ${to} had not begun to receive from node ${from} again for ${(idleMs / 1_000).toFixed(1)} s, as where its clock is set back: the stream was made anew`;
    await event({ kind: 'stream-renewed', node: to, text });
  }
}
