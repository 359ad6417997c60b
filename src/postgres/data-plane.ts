import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeId, Quorum, TableRecord } from '../catalog/model.ts';
import { parsePartitionTable, partitionTable, subscriptionName } from '../catalog/names.ts';
import { tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import type { DataPlane, HingeTarget, PartitionRef, SwingAttempt } from '../operations/ports.ts';
import type { Address } from './connect.ts';
import * as blockers from './sql/blockers.ts';
import { bootstrapDatabase, bootstrappedBy } from './sql/bootstrap.ts';
import type { NodeConnections, Sql } from './sql/client.ts';
import * as hinge from './sql/hinge.ts';
import { readLocalData } from './sql/local-data.ts';
import * as mesh from './sql/mesh.ts';
import { inDatabase } from './sql/other-session.ts';
import * as quorum from './sql/quorum.ts';
import * as refusal from './sql/refusal.ts';
import { forgetRenewal, prepareRenewal, renew } from './sql/renewal.ts';
import * as replica from './sql/replica.ts';
import * as table from './sql/table.ts';
import { useOwnRoles, weakenClients } from './sql/weaken.ts';

/**
 * The data plane on real servers. Work on one stream is taken one after the other (`#pairs`): a REFRESH takes
 * up everything new in the publication, and must find only what its own caller put there.
 */
export class PostgresDataPlane implements DataPlane {
  readonly #connections: NodeConnections;
  readonly #addressOf: (node: NodeId) => Address;
  readonly #pairs = new KeyedMutex();

  constructor(connections: NodeConnections, addressOf: (node: NodeId) => Address) {
    this.#connections = connections;
    this.#addressOf = addressOf;
  }

  #on(node: NodeId) {
    return this.#connections.on(node);
  }

  async bootstrap(node: NodeId): Promise<void> {
    // The node's own process, maybe of another version, has done so at its start.
    if ((await bootstrappedBy(this.#on(node))) === null) await bootstrapDatabase(this.#on(node));
  }

  async useOwnRoles(node: NodeId): Promise<void> {
    await useOwnRoles(this.#on(node));
  }

  async weakenClients(node: NodeId): Promise<'already' | 'done' | string> {
    return this.#connections.session(node, (sql) => weakenClients(sql, inDatabase(this.#addressOf(node))));
  }

  async ensureServer(from: NodeId, to: NodeId): Promise<void> {
    await hinge.ensureServer(this.#on(from), from, to, this.#addressOf(to));
  }

  async dropServer(from: NodeId, to: NodeId): Promise<void> {
    await hinge.dropServer(this.#on(from), to);
  }

  async createParent(node: NodeId, record: TableRecord): Promise<void> {
    await table.createParent(this.#on(node), node, record);
  }

  async parentExists(node: NodeId, record: TableRecord): Promise<boolean> {
    return table.parentExists(this.#on(node), record);
  }

  async dropParent(node: NodeId, record: TableRecord): Promise<void> {
    await table.dropParent(this.#on(node), record);
  }

  async createReplica(node: NodeId, record: TableRecord, pid: number): Promise<void> {
    await replica.createReplica(this.#on(node), record, pid);
  }

  async replicaExists(node: NodeId, { tid, pid }: PartitionRef): Promise<boolean> {
    return replica.replicaExists(this.#on(node), tid, pid);
  }

  async dropReplica(node: NodeId, { tid, pid }: PartitionRef, others?: 'are-ended'): Promise<void> {
    await this.#alone(node, others, (sql) => replica.dropReplica(sql, node, tid, pid));
  }

  async setGuard(node: NodeId, { tid, pid }: PartitionRef, on: boolean, others?: 'are-ended'): Promise<void> {
    const set = `SET LOCAL lock_timeout = '2s'; ${hinge.guardSql(tid, pid, on)}`;
    await this.#alone(node, others, (sql) => sql.query(set));
  }

  async replicaBytes(node: NodeId, { tid, pid }: PartitionRef): Promise<number> {
    return this.#connections.session(node, (sql) => replica.readBytes(sql, tid, pid));
  }

  async connectPair(from: NodeId, to: NodeId, isCounted: () => boolean): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, async () => {
      const whole = await this.#isWhole(from, to);
      if (!whole && isCounted()) return false;
      await mesh.ensurePublication(this.#on(from), from, to);
      if (!whole) {
        await this.#dropSubscription(from, to);
        await mesh.unpublish(this.#on(from), to, [...(await mesh.publishedTables(this.#on(from), to))]);
        await mesh.createSlot(this.#on(from), from, to);
      }
      await mesh.ensureSubscription(this.#on(to), from, to, this.#addressOf(from));
      // Of a renewal that was cut off.
      await forgetRenewal(this.#on(to), from, to);
      return true;
    });
  }

  /** In turn with whoever works on the stream: one that is being renewed is none for a moment. */
  async hasStream(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, () => mesh.subscriptionEnabled(this.#on(to), from, to));
  }

  async isWhole(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, () => this.#isWhole(from, to));
  }

  async #isWhole(from: NodeId, to: NodeId): Promise<boolean> {
    return (
      (await mesh.subscriptionEnabled(this.#on(to), from, to)) && (await mesh.slotExists(this.#on(from), from, to))
    );
  }

  async #dropSubscription(from: NodeId, to: NodeId): Promise<void> {
    await mesh.dropSubscription(this.#on(to), from, to);
    await forgetRenewal(this.#on(to), from, to);
  }

  async disconnectPair(from: NodeId, to: NodeId, gone?: NodeId): Promise<void> {
    await this.#pairs.run(`${from}>${to}`, async () => {
      if (to !== gone) await this.#dropSubscription(from, to);
      if (from !== gone) await mesh.dropSender(this.#on(from), from, to);
    });
  }

  async streamState(from: NodeId, to: NodeId, { tid, pid }: PartitionRef): Promise<'none' | 'copying' | 'ready'> {
    return (await this.streams(from, to)).get(partitionTable(tid, pid)) ?? 'none';
  }

  async published(from: NodeId, to: NodeId): Promise<PartitionRef[]> {
    return [...(await mesh.publishedTables(this.#on(from), to))].map(parsePartitionTable);
  }

  async streams(from: NodeId, to: NodeId): Promise<Map<string, 'copying' | 'ready'>> {
    const published = await mesh.publishedTables(this.#on(from), to);
    const subscribed = await mesh.subscribedTables(this.#on(to), from, to);
    const flowing = [...subscribed].filter(([name]) => published.has(name));
    return new Map(flowing.map(([name, state]) => [name, state === 'r' ? 'ready' : 'copying']));
  }

  async startStreams(from: NodeId, to: NodeId, refs: readonly PartitionRef[], copy: boolean): Promise<void> {
    const names = refs.map((r) => partitionTable(r.tid, r.pid));
    await this.#pairs.run(`${from}>${to}`, async () => {
      const published = await mesh.publishedTables(this.#on(from), to);
      const subscribed = await mesh.subscribedTables(this.#on(to), from, to);
      const missing = names.filter((n) => !published.has(n) || !subscribed.has(n));
      if (missing.length === 0) return;
      await this.#unpublishStrangers(from, to, subscribed);
      // Without a copy a table takes rows at once: also old ones of a sender that led it, died and has not
      // sent them yet. They pass first.
      if (!copy && !(await this.awaitMarker(to, from, await this.writeMarker(from), STREAM_BEHIND_MS))) {
        throw tideError('STREAM_BEHIND', { from, to });
      }
      // Subscribed, but no longer published: what was missed meanwhile would be missing for ever. Forget it
      // and start anew.
      if (missing.some((n) => subscribed.has(n))) await mesh.refresh(this.#on(to), from, to, false);
      await mesh.publish(this.#on(from), to, missing);
      await mesh.refresh(this.#on(to), from, to, copy);
    });
  }

  /**
   * A refresh that failed, or a crash before it, leaves tables that are published and not subscribed. Any
   * later refresh of the pair would take them up with its own `copy_data`: without their rows. Whoever
   * published them publishes them again.
   */
  async #unpublishStrangers(from: NodeId, to: NodeId, subscribed: ReadonlyMap<string, string>): Promise<void> {
    const published = await mesh.publishedTables(this.#on(from), to);
    await mesh.unpublish(
      this.#on(from),
      to,
      [...published].filter((t) => !subscribed.has(t)),
    );
  }

  async stopStream(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void> {
    await this.#pairs.run(`${from}>${to}`, async () => {
      await this.#unpublish(from, to, ref);
      const subscribed = await mesh.subscribedTables(this.#on(to), from, to);
      if (!subscribed.has(partitionTable(ref.tid, ref.pid))) return;
      // A stream that was cut cannot be changed any more; whoever needs it makes it anew.
      if (!(await this.#isWhole(from, to))) return this.#dropSubscription(from, to);
      await this.#unpublishStrangers(from, to, subscribed);
      const copies = await mesh.tableSyncSlot(this.#on(to), from, to, partitionTable(ref.tid, ref.pid));
      await mesh.refresh(this.#on(to), from, to, false, () => mesh.endWalsender(this.#on(from), copies));
    });
  }

  async stopSending(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void> {
    await this.#pairs.run(`${from}>${to}`, () => this.#unpublish(from, to, ref));
  }

  async #unpublish(from: NodeId, to: NodeId, { tid, pid }: PartitionRef): Promise<void> {
    const name = partitionTable(tid, pid);
    const published = await mesh.publishedTables(this.#on(from), to);
    if (published.has(name)) await mesh.unpublish(this.#on(from), to, [name]);
  }

  async copySlot(from: NodeId, to: NodeId, { tid, pid }: PartitionRef): Promise<string> {
    return mesh.tableSyncSlot(this.#on(to), from, to, partitionTable(tid, pid));
  }

  async keptWal(from: NodeId, to: NodeId, copySlot: string | null): Promise<number> {
    return mesh.keptWal(this.#on(from), subscriptionName(from, to), copySlot);
  }

  async dropSlot(node: NodeId, slot: string): Promise<void> {
    await mesh.dropSlot(this.#on(node), slot);
    await mesh.removeWal(this.#on(node));
  }

  async writeMarker(node: NodeId): Promise<string> {
    return mesh.writeMarker(this.#on(node), node);
  }

  async awaitMarker(at: NodeId, from: NodeId, value: string, timeoutMs: number): Promise<boolean> {
    return mesh.awaitMarker(this.#on(at), from, value, timeoutMs);
  }

  async readHinge(node: NodeId, ref: PartitionRef): Promise<HingeTarget | null> {
    const hinges = await hinge.readHinges(this.#on(node), ref);
    return hinges.get(partitionTable(ref.tid, ref.pid)) ?? null;
  }

  async readHinges(node: NodeId): Promise<Map<string, HingeTarget>> {
    return hinge.readHinges(this.#on(node));
  }

  async createForward(from: NodeId, to: NodeId, record: TableRecord, pid: number, epoch: number): Promise<void> {
    await hinge.createForward(this.#on(from), record, pid, { epoch, from, to: this.#addressOf(to) });
  }

  async dropForward(from: NodeId, { tid, pid }: PartitionRef, epoch: number): Promise<void> {
    await hinge.dropForward(this.#on(from), tid, pid, epoch);
  }

  async swingLeader(
    source: NodeId,
    ref: PartitionRef,
    swing: { epoch: number; followers: readonly NodeId[]; budgetMs: number },
  ): Promise<SwingAttempt> {
    const everyFollowerHasAll = async (leftMs: number) => {
      // What the commit itself takes has to fit into the budget too.
      const untilMs = performance.now() + leftMs - COMMIT_RESERVE_MS;
      const marker = await this.writeMarker(source);
      const waitMs = untilMs - performance.now();
      const arrivals = swing.followers.map((f) => this.awaitMarker(f, source, marker, waitMs).catch(() => false));
      const arrived = await Promise.race([Promise.all(arrivals), tooLate(waitMs)]);
      return arrived.every(Boolean);
    };
    return this.#connections.session(source, (sql) =>
      hinge.swingHinge(
        sql,
        { ...ref, from: { kind: 'local' }, to: { kind: 'forward', epoch: swing.epoch }, budgetMs: swing.budgetMs },
        everyFollowerHasAll,
        [hinge.guardSql(ref.tid, ref.pid, true)],
      ),
    );
  }

  async pointHinge(
    node: NodeId,
    record: TableRecord,
    pid: number,
    to: HingeTarget,
    budgetMs: number,
    others?: 'are-ended',
  ): Promise<SwingAttempt> {
    const ref = { tid: record.tid, pid };
    const from = await this.readHinge(node, ref);
    if (from === null || sameTarget(from, to)) return { outcome: 'done', pauseMs: 0 };
    if (to.kind === 'node') await this.ensureServer(node, to.node);
    // Made in the transaction that leads through it: one that is cut off leaves none behind.
    const prepare = to.kind === 'node' ? [hinge.foreignTableSql(record, pid, to.node).create] : [];
    // The foreign table that nothing leads through any more goes in the same transaction: its lock is held
    // already.
    const finish = from.kind === 'node' ? [hinge.dropRemoteSql(record.tid, pid, from.node)] : [];
    const swing = { ...ref, from, to, budgetMs };
    return this.#alone(node, others, (sql) => hinge.swingHinge(sql, swing, async () => true, finish, prepare));
  }

  async #alone<T>(node: NodeId, others: 'are-ended' | undefined, work: (sql: Sql) => Promise<T>): Promise<T> {
    return this.#connections.session(node, async (sql) =>
      others ? this.#endingOthers(node, await blockers.ownPid(sql), () => work(sql)) : work(sql),
    );
  }

  /**
   * Ends who is in the way of a session while that waits in front of those who come next: ended before, they
   * would be back before it.
   */
  async #endingOthers<T>(node: NodeId, session: number, work: () => Promise<T>): Promise<T> {
    const worked = new AbortController();
    const end = async () => {
      while (!worked.signal.aborted) {
        await sleep(END_OTHERS_MS, undefined, { signal: worked.signal }).catch(() => {});
        if (!worked.signal.aborted) await blockers.endBlockers(this.#on(node), session).catch(() => {});
      }
    };
    const [done] = await Promise.all([work().finally(() => worked.abort()), end()]);
    return done;
  }

  async cutStream(from: NodeId, to: NodeId): Promise<number | null> {
    return this.#pairs.run(`${from}>${to}`, () => this.#disable(from, to));
  }

  /** Comes back when nothing is applied any more, with how far it has come; null where there is no stream. */
  async #disable(from: NodeId, to: NodeId): Promise<number | null> {
    await mesh.disableSubscription(this.#on(to), from, to);
    const untilMs = performance.now() + LAST_ROWS_MS;
    for (;;) {
      const { busy, position } = await mesh.appliedPosition(this.#on(to), from, to);
      if (!busy) {
        // Whoever is chosen by it has to have it still when it crashes.
        if (position !== null) await mesh.flushWal(this.#on(to));
        return position;
      }
      if (performance.now() > untilMs) throw tideError('NODE_UNREACHABLE', { node: to, why: 'it still applies rows' });
      await mesh.endUnconnected(this.#on(to), from, to);
      await sleep(10);
    }
  }

  async resumeStream(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, async () => {
      if (await this.#isWhole(from, to)) return true;
      const isIntact =
        (await mesh.subscriptionReads(this.#on(to), from, to)) && (await mesh.slotExists(this.#on(from), from, to));
      if (isIntact) await mesh.enableSubscription(this.#on(to), from, to);
      return isIntact;
    });
  }

  async renewStream(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, async () => {
      if (!(await this.#isWhole(from, to)) || (await mesh.slotIsRead(this.#on(from), from, to))) return false;
      const published = await mesh.publishedTables(this.#on(from), to);
      const subscribed = await mesh.subscribedTables(this.#on(to), from, to);
      const withoutRows = [...published].filter((t) => subscribed.get(t) !== 'r');
      await prepareRenewal(this.#on(to), from, to, this.#addressOf(from));
      if (withoutRows.length > 0) {
        await mesh.unpublish(this.#on(from), to, withoutRows);
        await prepareRenewal(this.#on(to), from, to, this.#addressOf(from));
      }
      try {
        const applied = (await this.#disable(from, to)) ?? 0;
        await this.#connections.session(to, (sql) => renew(sql, from, to, applied));
      } catch (error) {
        await mesh.enableSubscription(this.#on(to), from, to);
        throw error;
      }
      await forgetRenewal(this.#on(to), from, to);
      return true;
    });
  }

  async dropSenders(node: NodeId): Promise<void> {
    await mesh.dropSenders(this.#on(node), node);
  }

  async listReplicas(node: NodeId): Promise<PartitionRef[]> {
    return replica.listReplicas(this.#on(node));
  }

  async dropLooseForwards(node: NodeId): Promise<void> {
    await hinge.dropLooseForwards(this.#on(node));
  }

  async endHolders(node: NodeId, { tid, pid }: PartitionRef): Promise<void> {
    await blockers.endHolders(this.#on(node), tid, pid);
  }

  async lockHolders(node: NodeId, { tid, pid }: PartitionRef) {
    return blockers.lockHolders(this.#on(node), tid, pid);
  }

  async olderSnapshots(node: NodeId, mark: string) {
    return blockers.olderSnapshots(this.#on(node), mark);
  }

  async oldestWriter(node: NodeId) {
    return blockers.oldestWriter(this.#on(node));
  }

  async localData(node: NodeId) {
    return readLocalData(node, this.#addressOf(node));
  }

  async snapshotMark(node: NodeId): Promise<string> {
    return blockers.snapshotMark(this.#on(node));
  }

  async readQuorum(node: NodeId): Promise<Quorum | null> {
    return quorum.readQuorum(this.#on(node), node);
  }

  async setQuorum(node: NodeId, wanted: Quorum): Promise<void> {
    await quorum.setQuorum(this.#on(node), node, wanted);
  }

  async refusals(node: NodeId): Promise<Map<string, 'on' | 'off'>> {
    return refusal.readRefusals(this.#on(node));
  }

  async refuseWrites(node: NodeId, ref: PartitionRef, name: string): Promise<void> {
    await this.#connections.session(node, (sql) => refusal.refuseWrites(sql, this.#on(node), ref, name));
  }

  async takeWrites(node: NodeId, ref: PartitionRef): Promise<void> {
    await this.#connections.session(node, (sql) => refusal.takeWrites(sql, ref));
  }
}

const STREAM_BEHIND_MS = 5_000;
const COMMIT_RESERVE_MS = 15;
/** Who only passes through is gone by then. */
const END_OTHERS_MS = 20;
/** How long a worker that has been told to end may go on with what it has received. */
const LAST_ROWS_MS = 5_000;

/** A frozen follower does not even answer that it has nothing yet. */
function tooLate(ms: number): Promise<boolean[]> {
  return new Promise((resolve) => setTimeout(() => resolve([false]), Math.max(0, ms)));
}

function sameTarget(a: HingeTarget, b: HingeTarget): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
