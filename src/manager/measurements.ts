import type { NodeId } from '../catalog/model.ts';
import { partitionKey } from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import type { Inspector } from './ports.ts';

export interface MeasuredSize {
  bytes: number;
  rows: number;
  /** When the server was asked. */
  atMs: number;
}

export interface MeasuredLag {
  replayLsn: string;
  lagBytes: number;
  atMs: number;
}

export interface MeasurementPorts {
  clock: Clock;
  inspector: Pick<Inspector, 'sizes' | 'lag'>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/** From the begin of one look at a node to the begin of the next. */
const EVERY_MS = 2_000;

/**
 * The sizes of replicas and the lag of streams, as each node's server last said: looked at in the background,
 * node by node, so that nobody who wants to know waits for a server. What could not be measured keeps its
 * last figure, which grows old; every figure has its time.
 */
export class Measurements {
  readonly #ports: MeasurementPorts;
  readonly #sizes = new Map<NodeId, Map<string, MeasuredSize>>();
  readonly #lags = new Map<NodeId, Map<string, MeasuredLag>>();
  readonly #measuredMs = new Map<NodeId, number>();
  readonly #begunMs = new Map<NodeId, number>();
  readonly #atWork = new Map<NodeId, Promise<void>>();

  constructor(ports: MeasurementPorts) {
    this.#ports = ports;
  }

  sizeOf(node: NodeId, key: string): MeasuredSize | null {
    return this.#sizes.get(node)?.get(key) ?? null;
  }

  lagOf(sender: NodeId, subscription: string): MeasuredLag | null {
    return this.#lags.get(sender)?.get(subscription) ?? null;
  }

  /** When all of a node was last measured; null: not yet. */
  measuredAt(node: NodeId): number | null {
    return this.#measuredMs.get(node) ?? null;
  }

  /** Begins to look at every node whose turn it is; one that has not answered yet is left alone. */
  round(nodes: readonly NodeId[]): void {
    const nowMs = this.#ports.clock.nowMs();
    const isDue = (node: NodeId) => nowMs - (this.#begunMs.get(node) ?? -Infinity) >= EVERY_MS;
    for (const node of nodes) if (!this.#atWork.has(node) && isDue(node)) void this.#begin(node);
  }

  /**
   * Looks anew at all of the nodes, and waits no longer for them than `boundMs`: then one that has not
   * answered keeps what it last said.
   */
  async anew(nodes: readonly NodeId[], boundMs: number): Promise<void> {
    const over = new AbortController();
    // Who is being looked at already may have said its sizes before we were asked.
    const looks = nodes.map(async (node) => {
      await this.#atWork.get(node);
      if (!over.signal.aborted) await (this.#atWork.get(node) ?? this.#begin(node));
    });
    await Promise.race([Promise.all(looks), this.#ports.clock.sleep(boundMs, over.signal)]);
    over.abort();
  }

  /** Until nobody is being looked at. */
  async idle(): Promise<void> {
    await Promise.all(this.#atWork.values());
  }

  #begin(node: NodeId): Promise<void> {
    const { clock, log } = this.#ports;
    this.#begunMs.set(node, clock.nowMs());
    const look = this.#look(node)
      .catch((error) => log('warn', 'a node could not be measured', { node, error: messageOf(error) }))
      .finally(() => this.#atWork.delete(node));
    this.#atWork.set(node, look);
    return look;
  }

  async #look(node: NodeId): Promise<void> {
    const { clock, inspector } = this.#ports;
    // From before the question: no figure is older than it says.
    const atMs = clock.nowMs();
    const sizes = await inspector.sizes(node);
    const known = this.#sizes.get(node);
    const measured = sizes.map(({ tid, pid, bytes, rows, isExact }) => {
      const key = partitionKey(tid, pid);
      // What somebody has locked is only estimated: what was measured before says more.
      const last = isExact ? undefined : known?.get(key);
      return [key, last ?? { bytes, rows, atMs }] as const;
    });
    this.#sizes.set(node, new Map(measured));
    const lagMs = clock.nowMs();
    const lags = await inspector.lag(node);
    this.#lags.set(node, new Map([...lags].map(([stream, lag]) => [stream, { ...lag, atMs: lagMs }])));
    this.#measuredMs.set(node, atMs);
  }
}
