import type { NodeId } from '../catalog/model.ts';
import { subscriptionName } from '../catalog/names.ts';
import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { DataPlane } from '../operations/ports.ts';
import { Looks } from './looks.ts';
import type { Inspector, ReceivedStream } from './ports.ts';

export interface StreamPorts {
  plane: Pick<DataPlane, 'renewStream'>;
  inspector: Pick<Inspector, 'received'>;
  clock: Clock;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/** PostgreSQL begins a stream that has ended again after a fifth of a second. */
const IDLE_MS = 3_000;

/**
 * Gives streams that their receivers do not begin again a new start. PostgreSQL waits for its clock to pass the last one, for hours where that has been
 * set back (`postgres/sql/renewal.ts`): without the follower's answers the leader's commits would wait as long. A stream that fails at
 * what it receives has begun, and is none of these.
 */
export class StreamKeeper {
  readonly #ports: StreamPorts;
  readonly #looks: Looks;
  /** Streams that did not run at any look, since when, by name. */
  readonly #idle = new Map<string, { sinceMs: number; failures: number }>();

  constructor(ports: StreamPorts) {
    this.#ports = ports;
    this.#looks = new Looks((node, error) =>
      ports.log('warn', 'the streams of a node could not be looked at', { node, error: messageOf(error) }),
    );
  }

  /** Looks at what `nodes`, all alive, receive from each other. */
  round(nodes: readonly NodeId[]): void {
    this.#looks.begin(nodes, (node) => this.#look(node, nodes));
  }

  idle(): Promise<void> {
    return this.#looks.idle();
  }

  async #look(to: NodeId, senders: readonly NodeId[]): Promise<void> {
    const received = await this.#ports.inspector.received(to);
    for (const from of senders) {
      const stream = received.get(subscriptionName(from, to));
      const idleMs = this.#idleMs(subscriptionName(from, to), stream);
      if (idleMs >= IDLE_MS) await this.#renew(from, to, idleMs);
    }
  }

  /** How long it has not run, as far as anybody has looked. */
  #idleMs(name: string, stream: ReceivedStream | undefined): number {
    const nowMs = this.#ports.clock.nowMs();
    const before = this.#idle.get(name);
    if (!stream || stream.runs) this.#idle.delete(name);
    else if (before?.failures === stream.failures) return nowMs - before.sinceMs;
    else this.#idle.set(name, { sinceMs: nowMs, failures: stream.failures });
    return 0;
  }

  async #renew(from: NodeId, to: NodeId, idleMs: number): Promise<void> {
    const { plane, event } = this.#ports;
    this.#idle.delete(subscriptionName(from, to));
    if (!(await plane.renewStream(from, to))) return;
    const text = `PostgreSQL of node ${to} had not begun to receive from node ${from} again for ${(idleMs / 1_000).toFixed(1)} s, as where its clock is set back: it does now`;
    await event({ kind: 'stream-renewed', node: to, text });
  }
}
