import type { CatalogChange } from '../catalog/change.ts';
import { haveInCommon, inStepOn } from '../catalog/holders.ts';
import type { NodeId, Partition, TableRecord } from '../catalog/model.ts';
import { partitionTable } from '../catalog/names.ts';
import {
  connectedNodes,
  fedThrough,
  isOut,
  partitionKey,
  partitionOf,
  replicaOn,
  servedPartitions,
} from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import { messageOf, TideError } from '../core/errors.ts';
import type { OperationRecord } from '../operations/operation.ts';
import { afterMeeting, afterTry, FRESH, isTooOld, type Patience, pauseBudget } from '../operations/pause-budget.ts';
import type { DataPlane, PartitionRef } from '../operations/ports.ts';
import { type GiveUpPorts, giveUpFollower } from './give-up.ts';

export interface ReconcilePorts extends GiveUpPorts {
  plane: DataPlane;
  clock: Clock;
  alive(node: NodeId): boolean;
  /** The operation whose the partition is: hands off. */
  holderOf(tid: number, pid: number): OperationRecord | undefined;
  /** The node is being failed over: what it has sent is being compared. */
  isChoosing(node: NodeId): boolean;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
}

/**
 * Brings nodes up to what the catalog says, each at its own pace: hinges of nodes that took no part in a
 * change of leader, and everything a node missed while it was away. Until then statements are forwarded from
 * node to node: slower, never wrong (docs/spec/upkeep.md, B1).
 */
export class Reconciler {
  readonly #ports: ReconcilePorts;
  readonly #hingesDue = new Set<NodeId>();
  readonly #straysDue = new Set<NodeId>();
  readonly #returned = new Set<NodeId>();
  readonly #atWork = new Set<NodeId>();
  /** Hinges that could not be turned yet. */
  readonly #patience = new Map<string, Patience>();
  /** What keeps a node from catching up, as it was told last. */
  readonly #told = new Map<NodeId, string>();

  constructor(ports: ReconcilePorts) {
    this.#ports = ports;
  }

  /** The catalog has changed. */
  hear(changes: readonly CatalogChange[]): void {
    const hasLeft = (c: CatalogChange) => c.kind === 'node-changed' && c.change.state === 'decommissioned';
    if (changes.some((c) => c.kind === 'leader-changed' || hasLeft(c))) this.#hingesChanged();
  }

  /**
   * A leader has changed, or a node has left: every node may have a hinge to point elsewhere, or a foreign
   * server to drop.
   */
  #hingesChanged(): void {
    for (const node of connectedNodes(this.#ports.view())) this.#hingesDue.add(node.id);
  }

  /** A node is back, or here for the first time under this manager. */
  nodeReturned(node: NodeId): void {
    this.#returned.add(node);
    this.#straysDue.add(node);
    this.#hingesDue.add(node);
  }

  /** Whether a node has yet to catch up with what it missed. */
  isDue(node: NodeId): boolean {
    return this.#returned.has(node) || this.#atWork.has(node);
  }

  /** One round over all nodes that are due and alive. What fails is due again in the next round. */
  async round(): Promise<void> {
    const members = new Set(
      connectedNodes(this.#ports.view())
        .filter((n) => n.state !== 'joining')
        .map((n) => n.id),
    );
    await Promise.all(
      [...members]
        .filter((n) => this.#ports.alive(n))
        .map(async (node) => {
          await this.#attempt(this.#straysDue, node, (n) => this.#endStrayStreams(n));
          await this.#attempt(this.#returned, node, (n) => this.#catchUpNode(n));
          await this.#attempt(this.#hingesDue, node, (n) => this.#pointHinges(n));
        }),
    );
  }

  async #attempt(due: Set<NodeId>, node: NodeId, work: (node: NodeId) => Promise<boolean>): Promise<void> {
    if (!due.has(node)) return;
    // Taken off before the work: what becomes due while it runs must not be lost.
    due.delete(node);
    this.#atWork.add(node);
    try {
      if (!(await work(node))) due.add(node);
      else if (due === this.#returned) this.#told.delete(node);
    } catch (error) {
      due.add(node);
      this.#ports.log('warn', 'reconcile failed', { node, error: messageOf(error) });
      await this.#tellOnce(node, error);
    } finally {
      this.#atWork.delete(node);
    }
  }

  /** What does not pass by itself is somebody's to mend. */
  async #tellOnce(node: NodeId, error: unknown): Promise<void> {
    if (!(error instanceof TideError) || error.retry !== 'never' || this.#told.get(node) === error.message) return;
    this.#told.set(node, error.message);
    const text = `node ${node} cannot catch up: ${error.message}; ${error.hint}`;
    await this.#ports.event({ kind: 'catch-up-blocked', node, text });
  }

  /** Servers, tables and streams that a node may have missed. */
  async #catchUpNode(node: NodeId): Promise<boolean> {
    const { plane } = this.#ports;
    await this.#ensureForeignServers(node);
    for (const table of this.#ports.view().tables.values()) {
      if (table.state === 'ready' && !(await plane.parents.exists(node, table)))
        await plane.parents.create(node, table);
    }
    return this.#resumeStreams(node);
  }

  async #ensureForeignServers(node: NodeId): Promise<void> {
    const { plane, alive, view } = this.#ports;
    const ids = connectedNodes(view()).map((n) => n.id);
    try {
      for (const other of ids.filter((id) => id !== node)) {
        await plane.hinges.ensureForeignServer(node, other);
        if (alive(other)) await plane.hinges.ensureForeignServer(other, node);
      }
    } finally {
      // The foreign server of a node that has left meanwhile was dropped before it was made again here: every
      // node looks once more.
      const here = new Set(connectedNodes(view()).map((n) => n.id));
      if (ids.some((id) => !here.has(id))) this.#hingesChanged();
    }
  }

  /**
   * What it sends of replicas that were removed while it was away: a row would come to a table that is gone,
   * and stop the stream for good. One that is being removed is looked at again when it is. A stream between
   * nodes that share nothing any more goes.
   */
  async #endStrayStreams(node: NodeId): Promise<boolean> {
    const { plane, alive, view } = this.#ports;
    let complete = true;
    for (const { id: other } of connectedNodes(view())) {
      if (other === node) continue;
      for (const { tid, pid } of await plane.streams.published(node, other)) {
        const partition = partitionOf(view(), tid, pid);
        const theirs = partition && replicaOn(partition, other);
        if (theirs && theirs.state !== 'leaving') continue;
        if (this.#busy(tid, pid)) complete = false;
        else await plane.streams.stopSending(node, other, { tid, pid });
      }
      if (!alive(other) || haveInCommon(view(), node, other)) continue;
      // Asked and queued for in one moment: whoever claims a replica there meanwhile connects after this.
      await Promise.all([plane.streams.disconnect(node, other), plane.streams.disconnect(other, node)]);
    }
    return complete;
  }

  /**
   * Streams between replicas that count. One from the leader that is not there means missed rows: that
   * replica is stale. Others carry nothing now and are just started.
   */
  async #resumeStreams(node: NodeId): Promise<boolean> {
    const { alive } = this.#ports;
    let complete = true;
    for (const { id: other } of connectedNodes(this.#ports.view())) {
      // One that is away sees to its streams itself when it is back.
      if (other === node || !alive(other) || this.#shared(node, other).length === 0) continue;
      const given = await Promise.all([this.#giveUpBroken(node, other), this.#giveUpBroken(other, node)]);
      if (!given.every(Boolean)) {
        complete = false;
        continue;
      }
      // Asked and queued for in one moment: whoever takes the last that they share from one of them
      // disconnects after this.
      if (this.#shared(node, other).length === 0) continue;
      const made = await Promise.all([this.#connect(node, other), this.#connect(other, node)]);
      if (!made.every(Boolean)) {
        complete = false;
        continue;
      }
      const here = await this.#resumeDirection(other, node);
      const there = await this.#resumeDirection(node, other);
      complete &&= here && there;
    }
    return complete;
  }

  #connect(from: NodeId, to: NodeId): Promise<boolean> {
    const { plane, view } = this.#ports;
    return plane.streams.connect(from, to, () => fedThrough(view(), from, to).length > 0);
  }

  #busy(tid: number, pid: number): boolean {
    return this.#ports.holderOf(tid, pid) !== undefined;
  }

  /** Partitions that both nodes hold in step with the leader, as the catalog says now. */
  #shared(a: NodeId, b: NodeId): PartitionRef[] {
    return inStepOn(this.#ports.view(), a, b).map(({ tid, pid }) => ({ tid, pid }));
  }

  /**
   * A stream that was only disabled, as by a manager that was killed at the wrong moment, goes on. A broken
   * one has lost rows: what its leader fed through it is stale, and waited for no more, before it is made
   * anew. The other way round the new one, which does not carry those partitions, would acknowledge their
   * commits. False where its receiver is about to lead by what it has of it.
   */
  async #giveUpBroken(from: NodeId, to: NodeId): Promise<boolean> {
    const { plane, view, isChoosing, log } = this.#ports;
    if (fedThrough(view(), from, to).length === 0 || (await plane.streams.isWhole(from, to))) return true;
    if (isChoosing(from)) return false;
    if (await plane.streams.resume(from, to)) return true;
    const why = `the stream from node ${from} was broken`;
    const fed = await giveUpFollower(this.#ports, { leader: from, follower: to, why });
    if (fed === null) return false;
    const partitions = fed.map((p) => partitionKey(p.tid, p.pid));
    log('warn', 'a stream is broken: what it fed will be copied again', { from, node: to, partitions });
    return true;
  }

  async #resumeDirection(from: NodeId, to: NodeId): Promise<boolean> {
    const { plane, view, log } = this.#ports;
    const refs = this.#shared(from, to);
    const flowing = await plane.streams.states(from, to);
    const missing = refs.filter((ref) => !flowing.has(partitionTable(ref.tid, ref.pid)));
    // What was taken from one of them meanwhile is no more to be sent.
    const still = new Set(this.#shared(from, to).map(({ tid, pid }) => partitionKey(tid, pid)));
    const free = missing.filter(({ tid, pid }) => !this.#busy(tid, pid) && still.has(partitionKey(tid, pid)));
    const leads = (ref: PartitionRef) => partitionOf(view(), ref.tid, ref.pid)?.leader === from;
    const idle = free.filter((ref) => !leads(ref));
    if (idle.length > 0) await plane.streams.start(from, to, idle, false);
    let given = true;
    for (const ref of free.filter(leads)) {
      // An operation that has begun meanwhile may be about to make it the leader.
      const why = `node ${from}, its leader, had stopped sending to it`;
      const stale = await giveUpFollower(this.#ports, { leader: from, follower: to, only: ref, why });
      if (stale === null) given = false;
      else if (stale.length > 0)
        log('warn', 'a follower was not fed by its leader: it will be copied again', { ...ref, node: to });
    }
    return given && free.length === missing.filter(({ tid, pid }) => still.has(partitionKey(tid, pid))).length;
  }

  /** Streams and foreign servers of nodes that left while this one was away. */
  async #forgetGone(node: NodeId): Promise<void> {
    const gone = [...this.#ports.view().nodes.values()].filter((n) => n.state === 'decommissioned');
    for (const { id } of gone) {
      await this.#ports.plane.streams.disconnect(id, node, id);
      await this.#ports.plane.streams.disconnect(node, id, id);
      await this.#ports.plane.hinges.dropForeignServer(node, id);
    }
  }

  async #pointHinges(node: NodeId): Promise<boolean> {
    const { plane, holderOf } = this.#ports;
    let complete = true;
    const hinges = await plane.hinges.readAll(node);
    for (const { table, partition: seen } of servedPartitions(this.#ports.view())) {
      const target = hinges.get(partitionTable(seen.tid, seen.pid));
      if (!target) continue;
      // The hinges before took their time: asked in the moment in which this one is turned. Its leader may be
      // this node by now.
      const partition = partitionOf(this.#ports.view(), seen.tid, seen.pid);
      // Where the leader itself stands, only the operation that made it the leader may turn the hinge.
      if (!partition || partition.leader === node) continue;
      if (target.kind === 'node' && target.node === partition.leader) continue;
      // Sessions on a hinge that leads to a node that is out wait for a server that may be frozen or cut off,
      // and hold the hinge as long.
      const isOfOut = target.kind === 'node' && isOut(this.#ports.view(), target.node);
      const holder = holderOf(partition.tid, partition.pid);
      // An operation turns the hinge of the node that is to lead. Through the others nobody gets anywhere
      // until it ends, if they are left alone.
      if (holder && (!isOfOut || mayLead(holder, node))) {
        complete = false;
        continue;
      }
      const done = await this.#swing(node, table, partition, isOfOut);
      if (done) {
        // Of a change of leader that has ended without this node.
        if (target.kind === 'forward') await plane.hinges.dropForward(node, partition, target.epoch);
        continue;
      }
      complete = false;
      if (isOfOut) await plane.sessions.endHolders(node, partition);
    }
    if (complete) await this.#forgetGone(node);
    return complete;
  }

  /** One try to point a hinge to where the partition is led; false where it was in use. */
  async #swing(node: NodeId, table: TableRecord, partition: Partition, isOfOut: boolean): Promise<boolean> {
    const { plane, view } = this.#ports;
    const { settings } = view();
    const place = `${node} ${partitionKey(partition.tid, partition.pid)}`;
    const patience = this.#patience.get(place) ?? FRESH;
    const budgetMs = pauseBudget(settings, patience);
    const [oldest] = isOfOut ? [] : await plane.sessions.lockHolders(node, partition);
    if (oldest && isTooOld(settings, budgetMs, oldest.ageMs)) {
      this.#patience.set(place, afterMeeting(patience, oldest, this.#ports.clock.nowMs()));
      return false;
    }
    const to = { kind: 'node', node: partition.leader } as const;
    const others = isOfOut ? 'are-ended' : undefined;
    const attempt = await plane.hinges.point(node, table, partition.pid, to, budgetMs, others);
    const isDone = attempt.outcome === 'done';
    if (isDone) this.#patience.delete(place);
    else this.#patience.set(place, afterTry(patience));
    return isDone;
  }
}

function mayLead({ kind, input }: OperationRecord, node: NodeId): boolean {
  return input.to === node && (kind === 'change-leader' || kind === 'move-replica');
}
