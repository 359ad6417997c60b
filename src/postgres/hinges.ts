import type { NodeId, TableRecord } from '../catalog/model.ts';
import { partitionTable } from '../catalog/names.ts';
import type { Hinges, HingeTarget, Markers, PartitionRef, SwingAttempt } from '../operations/ports.ts';
import { alone } from './alone.ts';
import type { Address } from './connect.ts';
import type { NodeConnections } from './sql/client.ts';
import {
  createForward,
  dropForeignServer,
  dropForward,
  dropLooseForwards,
  dropRemoteSql,
  ensureForeignServer,
  foreignTableSql,
  guardSql,
  readHinges,
  swingHinge,
} from './sql/hinge.ts';

const COMMIT_RESERVE_MS = 15;

/** The hinges on real servers: a swing is one transaction on its node (`sql/hinge.ts`). */
export class PostgresHinges implements Hinges {
  readonly #connections: NodeConnections;
  readonly #addressOf: (node: NodeId) => Address;
  readonly #markers: Markers;

  constructor(connections: NodeConnections, addressOf: (node: NodeId) => Address, markers: Markers) {
    this.#connections = connections;
    this.#addressOf = addressOf;
    this.#markers = markers;
  }

  #on(node: NodeId) {
    return this.#connections.on(node);
  }

  async read(node: NodeId, ref: PartitionRef): Promise<HingeTarget | null> {
    const hinges = await readHinges(this.#on(node), ref);
    return hinges.get(partitionTable(ref.tid, ref.pid)) ?? null;
  }

  async readAll(node: NodeId): Promise<Map<string, HingeTarget>> {
    return readHinges(this.#on(node));
  }

  async point(
    node: NodeId,
    record: TableRecord,
    pid: number,
    to: HingeTarget,
    budgetMs: number,
    others?: 'are-ended',
  ): Promise<SwingAttempt> {
    const ref = { tid: record.tid, pid };
    const from = await this.read(node, ref);
    if (from === null || sameTarget(from, to)) return { outcome: 'done', pauseMs: 0 };
    if (to.kind === 'node') await this.ensureForeignServer(node, to.node);
    // Made in the transaction that leads through it: one that is cut off leaves none behind.
    const prepare = to.kind === 'node' ? [foreignTableSql(record, pid, to.node).create] : [];
    // The foreign table that nothing leads through any more goes in the same transaction: its lock is held
    // already.
    const finish = from.kind === 'node' ? [dropRemoteSql(record.tid, pid, from.node)] : [];
    const swing = { ...ref, from, to, budgetMs };
    return alone(this.#connections, node, others, (sql) => swingHinge(sql, swing, async () => true, finish, prepare));
  }

  async swing(
    source: NodeId,
    ref: PartitionRef,
    swing: { epoch: number; followers: readonly NodeId[]; budgetMs: number },
  ): Promise<SwingAttempt> {
    return this.#connections.session(source, (sql) =>
      swingHinge(
        sql,
        { ...ref, from: { kind: 'local' }, to: { kind: 'forward', epoch: swing.epoch }, budgetMs: swing.budgetMs },
        (leftMs) => this.#haveAll(source, swing.followers, leftMs),
        [guardSql(ref.tid, ref.pid, true)],
      ),
    );
  }

  async #haveAll(source: NodeId, followers: readonly NodeId[], leftMs: number): Promise<boolean> {
    // What the commit itself takes has to fit into the budget too.
    const untilMs = performance.now() + leftMs - COMMIT_RESERVE_MS;
    const marker = await this.#markers.write(source);
    const waitMs = untilMs - performance.now();
    const arrivals = followers.map((f) => this.#markers.arrives(f, source, marker, waitMs).catch(() => false));
    const arrived = await Promise.race([Promise.all(arrivals), tooLate(waitMs)]);
    return arrived.every(Boolean);
  }

  async createForward(from: NodeId, to: NodeId, record: TableRecord, pid: number, epoch: number): Promise<void> {
    await createForward(this.#on(from), record, pid, { epoch, from, to: this.#addressOf(to) });
  }

  async dropForward(from: NodeId, { tid, pid }: PartitionRef, epoch: number): Promise<void> {
    await dropForward(this.#on(from), tid, pid, epoch);
  }

  async dropLooseForwards(node: NodeId): Promise<void> {
    await dropLooseForwards(this.#on(node));
  }

  async ensureForeignServer(from: NodeId, to: NodeId): Promise<void> {
    await ensureForeignServer(this.#on(from), from, to, this.#addressOf(to));
  }

  async dropForeignServer(from: NodeId, to: NodeId): Promise<void> {
    await dropForeignServer(this.#on(from), to);
  }
}

/** A frozen follower does not even answer that it has nothing yet. */
function tooLate(ms: number): Promise<boolean[]> {
  return new Promise((resolve) => setTimeout(() => resolve([false]), Math.max(0, ms)));
}

function sameTarget(a: HingeTarget, b: HingeTarget): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
