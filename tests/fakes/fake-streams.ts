import type { NodeId } from '../../src/catalog/model.ts';
import { parsePartitionTable, partitionTable } from '../../src/catalog/names.ts';
import { tideError } from '../../src/core/errors.ts';
import { KeyedMutex } from '../../src/core/mutex.ts';
import type { Markers, PartitionRef, Streams } from '../../src/operations/ports.ts';
import type { FakeCluster } from './fake-cluster.ts';
import type { Effect } from './fake-server.ts';

const nameOf = ({ tid, pid }: PartitionRef) => partitionTable(tid, pid);

const STREAM_BEHIND_MS = 5_000;

/** In the order of postgres/streams.ts. */
export class FakeStreams implements Streams {
  readonly #cluster: FakeCluster;
  readonly #effect: Effect;
  readonly #markers: Markers;
  readonly #turns = new KeyedMutex();

  constructor(cluster: FakeCluster, effect: Effect, markers: Markers) {
    this.#cluster = cluster;
    this.#effect = effect;
    this.#markers = markers;
  }

  #inTurn<T>(from: NodeId, to: NodeId, work: () => Promise<T>): Promise<T> {
    return this.#turns.run(`${from}>${to}`, work);
  }

  async connect(from: NodeId, to: NodeId, isCounted: () => boolean): Promise<boolean> {
    return this.#inTurn(from, to, async () => {
      if (!this.#isWhole(from, to) && isCounted()) return false;
      const { publications } = this.#cluster.on(from);
      if (!publications.has(to)) {
        await this.#effect(`n${from}: create publication to n${to}`, () => publications.set(to, new Set()));
      }
      const { slots } = this.#cluster.on(from);
      const receiver = this.#cluster.on(to);
      if (receiver.subscriptions.get(from)?.enabled && slots.has(to)) return true;
      if (receiver.subscriptions.has(from))
        await this.#effect(`n${to}: drop the cut stream from n${from}`, () => this.#cluster.unsubscribe(from, to));
      await this.#unpublish(from, to, [...this.#published(from, to)]);
      if (slots.has(to)) await this.#effect(`n${from}: drop slot of n${to}`, () => slots.delete(to));
      await this.#effect(`n${to}: subscribe to n${from}`, () => this.#cluster.subscribe(from, to));
      return true;
    });
  }

  async disconnect(from: NodeId, to: NodeId, gone?: NodeId): Promise<void> {
    await this.#inTurn(from, to, async () => {
      if (to !== gone && this.#cluster.on(to).subscriptions.has(from)) {
        await this.#effect(`n${to}: unsubscribe from n${from}`, () => this.#cluster.unsubscribe(from, to));
      }
      if (from === gone) return;
      const sender = this.#cluster.on(from);
      if (sender.slots.has(to)) await this.#effect(`n${from}: drop slot of n${to}`, () => sender.slots.delete(to));
      if (!sender.publications.has(to)) return;
      await this.#effect(`n${from}: drop publication to n${to}`, () => sender.publications.delete(to));
    });
  }

  async exists(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#inTurn(from, to, async () => this.#isEnabled(from, to));
  }

  async isWhole(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#inTurn(from, to, async () => this.#isWhole(from, to));
  }

  #isEnabled(from: NodeId, to: NodeId): boolean {
    return this.#cluster.on(to).subscriptions.get(from)?.enabled === true;
  }

  #isWhole(from: NodeId, to: NodeId): boolean {
    return this.#isEnabled(from, to) && this.#cluster.on(from).slots.has(to);
  }

  async published(from: NodeId, to: NodeId): Promise<PartitionRef[]> {
    return [...this.#published(from, to)].map(parsePartitionTable);
  }

  async states(from: NodeId, to: NodeId): Promise<Map<string, 'copying' | 'ready'>> {
    this.#cluster.flow();
    const published = this.#published(from, to);
    const flowing = [...this.#subscribed(from, to)].filter(([name]) => published.has(name));
    return new Map(flowing.map(([name, sync]) => [name, sync.copiedAtMs === null ? 'ready' : 'copying']));
  }

  async state(from: NodeId, to: NodeId, ref: PartitionRef): Promise<'none' | 'copying' | 'ready'> {
    this.#cluster.flow();
    const sync = this.#subscribed(from, to).get(nameOf(ref));
    if (!this.#published(from, to).has(nameOf(ref)) || !sync) return 'none';
    return sync.copiedAtMs === null ? 'ready' : 'copying';
  }

  #published(from: NodeId, to: NodeId) {
    return this.#cluster.on(from).publications.get(to) ?? new Set<string>();
  }

  #subscribed(from: NodeId, to: NodeId) {
    return this.#cluster.on(to).subscriptions.get(from)?.tables ?? new Map<string, { copiedAtMs: number | null }>();
  }

  async start(from: NodeId, to: NodeId, refs: readonly PartitionRef[], copy: boolean): Promise<void> {
    await this.#inTurn(from, to, async () => {
      const published = new Set(this.#published(from, to));
      const subscribed = new Set(this.#subscribed(from, to).keys());
      const missing = refs.map(nameOf).filter((n) => !published.has(n) || !subscribed.has(n));
      if (missing.length === 0) return;
      const strangers = [...published].filter((t) => !missing.includes(t) && !subscribed.has(t));
      await this.#unpublish(from, to, strangers);
      if (!copy && !(await this.#markers.arrives(to, from, await this.#markers.write(from), STREAM_BEHIND_MS)))
        throw tideError('STREAM_BEHIND', { from, to });
      if (missing.some((n) => subscribed.has(n))) await this.#refresh(from, to, false);
      const added = missing.filter((n) => !published.has(n));
      if (added.length > 0) {
        await this.#effect(`n${from}: publish ${added.join(', ')} to n${to}`, () => {
          const publication = this.#cluster.on(from).publications.get(to);
          if (!publication) throw new Error(`publication to n${to} does not exist on n${from}`);
          for (const name of added) publication.add(name);
        });
      }
      await this.#refresh(from, to, copy);
    });
  }

  async #unpublish(from: NodeId, to: NodeId, names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    await this.#effect(`n${from}: unpublish ${names.join(', ')} to n${to}`, () => {
      for (const name of names) this.#published(from, to).delete(name);
    });
  }

  async #refresh(from: NodeId, to: NodeId, copy: boolean): Promise<void> {
    this.#cluster.on(to);
    await this.#effect(`n${to}: refresh from n${from}${copy ? ' and copy' : ''}`, () =>
      this.#cluster.refresh(from, to, copy),
    );
  }

  async stop(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void> {
    await this.#inTurn(from, to, async () => {
      if (this.#published(from, to).has(nameOf(ref))) await this.#unpublish(from, to, [nameOf(ref)]);
      const subscribed = this.#subscribed(from, to);
      if (!subscribed.has(nameOf(ref))) return;
      if (!this.#isWhole(from, to)) {
        return this.#effect(`n${to}: drop the cut stream from n${from}`, () => this.#cluster.unsubscribe(from, to));
      }
      // Published by somebody whose refresh has failed: this one would take it up without its rows.
      const strangers = [...this.#published(from, to)].filter((t) => !subscribed.has(t));
      await this.#unpublish(from, to, strangers);
      await this.#refresh(from, to, false);
    });
  }

  async stopSending(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void> {
    await this.#inTurn(from, to, async () => {
      if (this.#published(from, to).has(nameOf(ref))) await this.#unpublish(from, to, [nameOf(ref)]);
    });
  }

  async cut(from: NodeId, to: NodeId): Promise<number | null> {
    return this.#inTurn(from, to, () => this.#disable(from, to));
  }

  async #disable(from: NodeId, to: NodeId): Promise<number | null> {
    const subscription = this.#cluster.on(to).subscriptions.get(from);
    if (subscription?.enabled) {
      await this.#effect(`n${to}: cut the stream from n${from}`, () => {
        subscription.enabled = false;
      });
    }
    return subscription?.applied ?? null;
  }

  async resume(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#inTurn(from, to, async () => {
      const subscription = this.#cluster.on(to).subscriptions.get(from);
      if (!subscription || !this.#cluster.on(from).slots.has(to)) return false;
      if (!subscription.enabled)
        await this.#effect(`n${to}: let the stream from n${from} go on`, () => {
          subscription.enabled = true;
        });
      return true;
    });
  }

  async renew(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#inTurn(from, to, async () => {
      const subscription = this.#cluster.on(to).subscriptions.get(from);
      if (!subscription?.stalled || !this.#isWhole(from, to)) return false;
      const withoutRows = [...this.#published(from, to)].filter((t) => subscription.tables.get(t)?.copiedAtMs !== null);
      if (!this.#cluster.linked(from, to)) throw new Error(`n${to} does not reach n${from}`);
      await this.#unpublish(from, to, withoutRows);
      try {
        await this.#disable(from, to);
        await this.#effect(`n${to}: renew the stream from n${from}`, () => this.#cluster.renew(from, to));
      } catch (error) {
        await this.#effect(`n${to}: let the stream from n${from} run`, () => {
          subscription.enabled = true;
        });
        throw error;
      }
      return true;
    });
  }

  async dropSenders(node: NodeId): Promise<void> {
    const { slots, copySlots, publications } = this.#cluster.on(node);
    if (slots.size + copySlots.size > 0) {
      await this.#effect(`n${node}: drop all slots`, () => {
        slots.clear();
        copySlots.clear();
      });
    }
    if (publications.size > 0) await this.#effect(`n${node}: drop all publications`, () => publications.clear());
  }
}
