import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId } from '../catalog/model.ts';
import { parsePartitionTable, partitionTable, subscriptionName } from '../catalog/names.ts';
import { tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import type { Markers, PartitionRef, Streams } from '../operations/ports.ts';
import type { Address } from './connect.ts';
import type { NodeConnections } from './sql/client.ts';
import {
  dropPublication,
  dropPublications,
  ensurePublication,
  publish,
  publishedTables,
  unpublish,
} from './sql/publication.ts';
import { forgetRenewal, prepareRenewal, renew } from './sql/renewal.ts';
import { createSlot, dropSlot, dropSlots, endWalsender, slotExists, slotIsRead } from './sql/slots.ts';
import {
  appliedPosition,
  disableSubscription,
  dropSubscription,
  enableSubscription,
  endUnconnected,
  ensureSubscription,
  flushWal,
  refresh,
  subscribedTables,
  subscriptionEnabled,
  subscriptionReads,
  tableSyncSlot,
} from './sql/subscription.ts';

const STREAM_BEHIND_MS = 5_000;
/** How long a worker that has been told to end may go on with what it has received. */
const LAST_ROWS_MS = 5_000;
const APPLIES_LOOK_MS = 10;

/**
 * The replication mesh on real servers: one stream per ordered pair of nodes. `origin = none` sends only what
 * was written at the sender itself, so that streams in both directions do not echo, and a change of leader
 * changes no replication (docs/spec/replication.md).
 *
 * Work on one stream is taken one after the other (`#inTurn`): a REFRESH takes up everything new in the
 * publication, and must find only what its own caller put there.
 */
export class PostgresStreams implements Streams {
  readonly #connections: NodeConnections;
  readonly #addressOf: (node: NodeId) => Address;
  readonly #markers: Markers;
  readonly #turns = new KeyedMutex();

  constructor(connections: NodeConnections, addressOf: (node: NodeId) => Address, markers: Markers) {
    this.#connections = connections;
    this.#addressOf = addressOf;
    this.#markers = markers;
  }

  #on(node: NodeId) {
    return this.#connections.on(node);
  }

  #inTurn<T>(from: NodeId, to: NodeId, work: () => Promise<T>): Promise<T> {
    return this.#turns.run(`${from}>${to}`, work);
  }

  async connect(from: NodeId, to: NodeId, isCounted: () => boolean): Promise<boolean> {
    return this.#inTurn(from, to, async () => {
      const whole = await this.#isWhole(from, to);
      if (!whole && isCounted()) return false;
      await ensurePublication(this.#on(from), from, to);
      // Of a renewal that was cut off.
      if (whole) await forgetRenewal(this.#on(to), from, to);
      else {
        await this.#dropSubscription(from, to);
        await unpublish(this.#on(from), to, [...(await publishedTables(this.#on(from), to))]);
        await createSlot(this.#on(from), from, to);
      }
      await ensureSubscription(this.#on(to), from, to, this.#addressOf(from));
      return true;
    });
  }

  async disconnect(from: NodeId, to: NodeId, gone?: NodeId): Promise<void> {
    await this.#inTurn(from, to, async () => {
      if (to !== gone) await this.#dropSubscription(from, to);
      if (from === gone) return;
      await dropSlot(this.#on(from), subscriptionName(from, to));
      await dropPublication(this.#on(from), to);
    });
  }

  async #dropSubscription(from: NodeId, to: NodeId): Promise<void> {
    await dropSubscription(this.#on(to), from, to);
    await forgetRenewal(this.#on(to), from, to);
  }

  /** In turn with whoever works on the stream: one that is being renewed is none for a moment. */
  async exists(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#inTurn(from, to, () => subscriptionEnabled(this.#on(to), from, to));
  }

  async isWhole(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#inTurn(from, to, () => this.#isWhole(from, to));
  }

  async #isWhole(from: NodeId, to: NodeId): Promise<boolean> {
    return (await subscriptionEnabled(this.#on(to), from, to)) && (await slotExists(this.#on(from), from, to));
  }

  async published(from: NodeId, to: NodeId): Promise<PartitionRef[]> {
    return [...(await publishedTables(this.#on(from), to))].map(parsePartitionTable);
  }

  async states(from: NodeId, to: NodeId): Promise<Map<string, 'copying' | 'ready'>> {
    const published = await publishedTables(this.#on(from), to);
    const subscribed = await subscribedTables(this.#on(to), from, to);
    const flowing = [...subscribed].filter(([name]) => published.has(name));
    return new Map(flowing.map(([name, state]) => [name, state === 'r' ? 'ready' : 'copying']));
  }

  async state(from: NodeId, to: NodeId, { tid, pid }: PartitionRef): Promise<'none' | 'copying' | 'ready'> {
    return (await this.states(from, to)).get(partitionTable(tid, pid)) ?? 'none';
  }

  async start(from: NodeId, to: NodeId, refs: readonly PartitionRef[], copy: boolean): Promise<void> {
    const names = refs.map((r) => partitionTable(r.tid, r.pid));
    await this.#inTurn(from, to, async () => {
      const published = await publishedTables(this.#on(from), to);
      const subscribed = await subscribedTables(this.#on(to), from, to);
      const missing = names.filter((n) => !published.has(n) || !subscribed.has(n));
      if (missing.length === 0) return;
      await this.#unpublishStrangers(from, to, subscribed);
      // Without a copy a table takes rows at once: also old ones of a sender that led it, died and has not
      // sent them yet. They pass first.
      if (!copy && !(await this.#markers.arrives(to, from, await this.#markers.write(from), STREAM_BEHIND_MS))) {
        throw tideError('STREAM_BEHIND', { from, to });
      }
      // Subscribed, but no longer published: what was missed meanwhile would be missing for ever. Forget it
      // and start anew.
      if (missing.some((n) => subscribed.has(n))) await refresh(this.#on(to), from, to, false);
      await publish(this.#on(from), to, missing);
      await refresh(this.#on(to), from, to, copy);
    });
  }

  /**
   * A refresh that failed, or a crash before it, leaves tables that are published and not subscribed. Any
   * later refresh of the pair would take them up with its own `copy_data`: without their rows. Whoever
   * published them publishes them again.
   */
  async #unpublishStrangers(from: NodeId, to: NodeId, subscribed: ReadonlyMap<string, string>): Promise<void> {
    const published = await publishedTables(this.#on(from), to);
    await unpublish(
      this.#on(from),
      to,
      [...published].filter((t) => !subscribed.has(t)),
    );
  }

  async stop(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void> {
    await this.#inTurn(from, to, async () => {
      await this.#unpublish(from, to, ref);
      const subscribed = await subscribedTables(this.#on(to), from, to);
      if (!subscribed.has(partitionTable(ref.tid, ref.pid))) return;
      // A stream that was cut cannot be changed any more; whoever needs it makes it anew.
      if (!(await this.#isWhole(from, to))) return this.#dropSubscription(from, to);
      await this.#unpublishStrangers(from, to, subscribed);
      const copies = await tableSyncSlot(this.#on(to), from, to, partitionTable(ref.tid, ref.pid));
      await refresh(this.#on(to), from, to, false, () => endWalsender(this.#on(from), copies));
    });
  }

  async stopSending(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void> {
    await this.#inTurn(from, to, () => this.#unpublish(from, to, ref));
  }

  async #unpublish(from: NodeId, to: NodeId, { tid, pid }: PartitionRef): Promise<void> {
    const name = partitionTable(tid, pid);
    const published = await publishedTables(this.#on(from), to);
    if (published.has(name)) await unpublish(this.#on(from), to, [name]);
  }

  async cut(from: NodeId, to: NodeId): Promise<number | null> {
    return this.#inTurn(from, to, () => this.#disable(from, to));
  }

  /** Comes back when nothing is applied any more, with how far it has come; null where there is no stream. */
  async #disable(from: NodeId, to: NodeId): Promise<number | null> {
    await disableSubscription(this.#on(to), from, to);
    const untilMs = performance.now() + LAST_ROWS_MS;
    for (;;) {
      const { busy, position } = await appliedPosition(this.#on(to), from, to);
      if (!busy) {
        // Whoever is chosen by it has to have it still when it crashes.
        if (position !== null) await flushWal(this.#on(to));
        return position;
      }
      if (performance.now() > untilMs) throw tideError('NODE_UNREACHABLE', { node: to, why: 'it still applies rows' });
      await endUnconnected(this.#on(to), from, to);
      await sleep(APPLIES_LOOK_MS);
    }
  }

  async resume(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#inTurn(from, to, async () => {
      if (await this.#isWhole(from, to)) return true;
      const isIntact =
        (await subscriptionReads(this.#on(to), from, to)) && (await slotExists(this.#on(from), from, to));
      if (isIntact) await enableSubscription(this.#on(to), from, to);
      return isIntact;
    });
  }

  async renew(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#inTurn(from, to, async () => {
      if (!(await this.#isWhole(from, to)) || (await slotIsRead(this.#on(from), from, to))) return false;
      const published = await publishedTables(this.#on(from), to);
      const subscribed = await subscribedTables(this.#on(to), from, to);
      const withoutRows = [...published].filter((t) => subscribed.get(t) !== 'r');
      await prepareRenewal(this.#on(to), from, to, this.#addressOf(from));
      if (withoutRows.length > 0) {
        await unpublish(this.#on(from), to, withoutRows);
        await prepareRenewal(this.#on(to), from, to, this.#addressOf(from));
      }
      try {
        const applied = (await this.#disable(from, to)) ?? 0;
        await this.#connections.session(to, (sql) => renew(sql, from, to, applied));
      } catch (error) {
        await enableSubscription(this.#on(to), from, to);
        throw error;
      }
      await forgetRenewal(this.#on(to), from, to);
      return true;
    });
  }

  async dropSenders(node: NodeId): Promise<void> {
    await dropSlots(this.#on(node), node);
    await dropPublications(this.#on(node));
  }
}
