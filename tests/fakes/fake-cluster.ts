import type { NodeId, TableRecord } from '../../src/catalog/model.ts';
import {
  foreignServerName,
  forwardName,
  partitionTable,
  publicationName,
  remoteTable,
  subscriptionName,
} from '../../src/catalog/names.ts';
import { protects } from '../../src/catalog/quorum.ts';
import { must } from '../../src/core/assert.ts';
import { tideError } from '../../src/core/errors.ts';
import type { Inventory, InventoryKind } from '../../src/manager/ports.ts';
import type { HingeTarget } from '../../src/operations/ports.ts';
import { FakeServer, type Replica, type Sent, type Subscription } from './fake-server.ts';
import type { ManualClock } from './manual-clock.ts';

const COPY_MS = 120;
const LAG_MS = 5;
/** Commits may wait this long for a change of the quorum that was cut off to be gone on with. */
const HANG_MS = 1_000;

/**
 * Servers in memory with the semantics of real ones as far as operations depend on them: what a REFRESH takes
 * up, what is sent to whom, that a copy into rows fails, that an apply worker stops at a row whose table is
 * gone. Clients write and read through every node before each call.
 */
export class FakeCluster {
  readonly clock: ManualClock;
  readonly servers = new Map<NodeId, FakeServer>();
  /** What went wrong that must not: failed statements, missing rows, streams that stopped. */
  readonly problems: string[] = [];
  /** Rows a client was told are written, by partition table. */
  readonly acknowledged = new Map<string, number>();
  /** Nodes and tables that clients use now. */
  clients: () => { nodes: NodeId[]; tids: number[] } = () => ({ nodes: [], tids: [] });
  /** Nodes whose replica of a partition counts as in step with its leader. */
  replicasInStep: (name: string) => NodeId[] = () => [];
  /** Whether two servers reach each other. */
  linked: (a: NodeId, b: NodeId) => boolean = () => true;
  /** How long what one server sends takes to the other now, milliseconds. */
  lagMs: (from: NodeId, to: NodeId) => number = () => LAG_MS;
  /** Since when no commit has come back, by node. */
  readonly #hangs = new Map<NodeId, number>();
  #seq = 0;

  constructor(clock: ManualClock, nodes: readonly NodeId[]) {
    this.clock = clock;
    for (const id of nodes) this.servers.set(id, new FakeServer(id));
  }

  /** The server, also where it is down. */
  at(node: NodeId): FakeServer {
    const server = this.servers.get(node);
    if (!server) throw new Error(`there is no server ${node}`);
    return server;
  }

  /** The server, for a caller that needs an answer. */
  on(node: NodeId): FakeServer {
    const server = this.at(node);
    if (!server.alive) throw tideError('NODE_UNREACHABLE', { node, why: 'connection refused' });
    return server;
  }

  // Clients.

  /** One write and one count of every partition through every node. */
  traffic(): void {
    this.flow();
    const { nodes, tids } = this.clients();
    for (const node of nodes.filter((n) => this.at(n).alive && !this.at(n).fenced)) {
      for (const tid of tids) for (const name of this.#partitions(tid)) this.#statement(node, name);
    }
  }

  #partitions(tid: number): string[] {
    for (const { parents } of this.servers.values()) {
      const table = parents.get(tid);
      if (table) return table.partitions.map((p) => partitionTable(tid, p.pid));
    }
    return [];
  }

  #statement(via: NodeId, name: string): void {
    const found = this.follow(via, name);
    if (found === 'waits') return;
    if ('problem' in found) {
      this.problems.push(`a statement on ${name} through n${via} failed: ${found.problem}`);
      return;
    }
    const replica = this.at(found.node).replicas.get(name);
    const known = this.acknowledged.get(name) ?? 0;
    if (!replica || replica.guarded) {
      this.problems.push(`${name} through n${via}: n${found.node} ${replica ? 'is not the leader' : 'holds no rows'}`);
    } else if (replica.rows.size !== known) {
      this.problems.push(
        `${name} through n${via}: a count at n${found.node} sees ${replica.rows.size} of ${known} rows`,
      );
    } else if (!this.at(found.node).refused.has(name) && this.#acknowledges(found.node, name)) {
      this.write(found.node, name);
      this.acknowledged.set(name, known + 1);
    }
  }

  /**
   * Whether a commit there comes back to its client. That it does before a follower has it is a problem, and
   * so is that it does not for long.
   */
  #acknowledges(node: NodeId, name: string): boolean {
    const { quorum, slots } = this.at(node);
    const listening = quorum.nodes.filter((n) => slots.has(n) && this.at(n).subscriptions.has(node));
    const nowMs = this.clock.nowMs();
    const sinceMs = listening.length < quorum.count ? (this.#hangs.get(node) ?? nowMs) : null;
    if (sinceMs === null) this.#hangs.delete(node);
    else this.#hangs.set(node, sinceMs);
    if (sinceMs !== null && nowMs - sinceMs > HANG_MS) {
      this.problems.push(`commits at n${node} hang: ${quorum.count} of ${quorum.nodes} wanted, ${listening} listen`);
    }
    const followers = this.replicasInStep(name).filter((n) => n !== node);
    if (followers.length > 0 && !protects(quorum, followers)) {
      this.problems.push(
        `a commit on ${name} at n${node} is acknowledged by ${quorum.count} of ${quorum.nodes}, none of them perhaps of its followers ${followers}`,
      );
    }
    return listening.filter((n) => this.at(n).alive).length >= quorum.count;
  }

  /**
   * Commits a row where the node leads, on its own disk, and sends it on its way; gives its place in all that
   * was ever written.
   */
  write(node: NodeId, name: string): number {
    this.#seq += 1;
    store(must(this.on(node).replicas.get(name), `${name} on n${node}`), this.#seq);
    this.#send(node, name);
    return this.#seq;
  }

  /**
   * The node whose replica a statement on the hinge reaches; `waits` where it would queue behind a lock or a
   * node that is down.
   */
  follow(via: NodeId, name: string): { node: NodeId } | { problem: string } | 'waits' {
    const way: NodeId[] = [];
    for (let node = via; ; ) {
      const server = this.at(node);
      if (!server.answers || server.locked.has(name)) return 'waits';
      if (way.includes(node)) return { problem: `hinges lead in a circle: ${[...way, node].join(' → ')}` };
      way.push(node);
      const target = server.hinges.get(name);
      if (!target) return { problem: `n${node} has ${target === null ? 'a hinge without a child' : 'no hinge'}` };
      if (target.kind === 'local') return { node };
      if (target.kind === 'forward') {
        const to = server.foreign.get(forwardOf(name, target.epoch));
        if (to === undefined) return { problem: `n${node} lacks its forward` };
        return this.at(to).answers && this.linked(node, to) ? { node: to } : 'waits';
      }
      if (!this.linked(node, target.node)) return 'waits';
      node = target.node;
    }
  }

  // Replication.

  #send(from: NodeId, table: string | null): void {
    const server = this.at(from);
    for (const [to, slot] of server.slots) {
      const published = server.publications.get(to);
      if (published && (table === null || published.has(table))) {
        slot.push({ table, seq: this.#seq, atMs: this.clock.nowMs() });
      }
    }
  }

  writeMarker(node: NodeId): number {
    this.#seq += 1;
    this.#send(node, null);
    return this.#seq;
  }

  /** Delivers what has been on its way long enough and ends copies that are due. */
  flow(): void {
    for (const sender of this.servers.values()) {
      for (const [to, slot] of sender.slots) {
        const receiver = this.at(to);
        const subscription = receiver.subscriptions.get(sender.id);
        if (!subscription || !runs(subscription) || !this.#flows(sender, receiver)) continue;
        this.#endCopies(sender, receiver, subscription);
        if (slot.length === 0) continue;
        const sentBeforeMs = this.clock.nowMs() - this.lagMs(sender.id, receiver.id);
        while (slot[0] && slot[0].atMs <= sentBeforeMs) {
          if (!this.#apply(receiver, subscription, slot[0])) {
            const what = `n${receiver.id} stopped at a row of ${slot[0].table}, whose table is gone there`;
            if (!this.problems.includes(what)) this.problems.push(what);
            break;
          }
          subscription.applied = slot[0].seq;
          slot.shift();
        }
      }
    }
  }

  /** The receiver's worker is connected, and does its work. */
  #flows(sender: FakeServer, receiver: FakeServer): boolean {
    const works = receiver.alive && !receiver.frozen && !receiver.lagging;
    return works && sender.answers && this.linked(sender.id, receiver.id);
  }

  /**
   * Whether `to` has said that all `from` wrote up to `seq` is on its disk: what commits at `from` wait for.
   */
  hasConfirmed(from: NodeId, to: NodeId, seq: number): boolean {
    const sender = this.at(from);
    const receiver = this.servers.get(to);
    const slot = sender.slots.get(to);
    const subscription = receiver?.subscriptions.get(from);
    if (!receiver || !subscription || !runs(subscription) || !slot || !this.#flows(sender, receiver)) return false;
    return slot[0] === undefined || slot[0].seq > seq;
  }

  #apply(receiver: FakeServer, subscription: Subscription, sent: Sent): boolean {
    if (sent.table === null) {
      subscription.marker = sent.seq;
      return true;
    }
    const replica = receiver.replicas.get(sent.table);
    if (!replica) return false;
    const sync = subscription.tables.get(sent.table);
    if (!sync || sent.seq <= sync.since) return true;
    if (sync.copiedAtMs !== null) sync.held.push(sent);
    else store(replica, sent.seq);
    return true;
  }

  #endCopies(sender: FakeServer, receiver: FakeServer, subscription: Subscription): void {
    for (const [name, sync] of subscription.tables) {
      const replica = receiver.replicas.get(name);
      if (!replica || sync.copiedAtMs === null || sync.copied === null || sync.copiedAtMs > this.clock.nowMs())
        continue;
      if (replica.rows.size > 0) {
        this.problems.push(`n${receiver.id}: ${name} is copied into rows that are there`);
        sync.copied = null;
        continue;
      }
      for (const row of sync.copied.rows) replica.rows.add(row);
      replica.last = sync.copied.last;
      for (const sent of sync.held) store(replica, sent.seq);
      sync.copiedAtMs = null;
      sender.copySlots.delete(copySlotName(receiver.id, name));
    }
  }

  /** ALTER SUBSCRIPTION … REFRESH PUBLICATION. */
  refresh(from: NodeId, to: NodeId, copy: boolean): void {
    if (this.on(from).fenced) throw new Error(`n${from} is fenced: no replication`);
    if (!this.linked(from, to)) throw new Error(`could not connect to the publisher: n${to} does not reach n${from}`);
    const published = this.on(from).publications.get(to);
    const subscription = this.on(to).subscriptions.get(from);
    if (!published || !subscription) throw new Error(`subscription ${subscriptionName(from, to)} does not exist`);
    for (const name of subscription.tables.keys()) {
      if (published.has(name)) continue;
      subscription.tables.delete(name);
      this.on(from).copySlots.delete(copySlotName(to, name));
    }
    for (const name of published) {
      if (subscription.tables.has(name)) continue;
      if (!this.on(to).replicas.has(name)) throw new Error(`relation tide_data.${name} does not exist on n${to}`);
      const source = this.on(from).replicas.get(name);
      const copied = copy && source ? { ...source, rows: new Set(source.rows) } : null;
      const copiedAtMs = copy ? this.clock.nowMs() + COPY_MS : null;
      if (copy) this.on(from).copySlots.add(copySlotName(to, name));
      subscription.tables.set(name, { copiedAtMs, since: copy ? this.#seq : 0, copied, held: [] });
    }
  }

  /** DROP SUBSCRIPTION: takes the slots of its unfinished copies along where the sender answers. */
  unsubscribe(from: NodeId, to: NodeId): void {
    const tables = this.on(to).subscriptions.get(from)?.tables ?? new Map<string, unknown>();
    if (this.at(from).serves) for (const name of tables.keys()) this.at(from).copySlots.delete(copySlotName(to, name));
    this.on(to).subscriptions.delete(from);
  }

  /**
   * A new subscription takes the old one's place: it goes on where that was, and takes what is published for
   * copied.
   */
  renew(from: NodeId, to: NodeId): void {
    const subscription = must(this.on(to).subscriptions.get(from), subscriptionName(from, to));
    const published = this.on(from).publications.get(to) ?? new Set<string>();
    for (const [name, sync] of subscription.tables) {
      if (published.has(name) && sync.copiedAtMs === null) continue;
      if (published.has(name)) this.problems.push(`n${to}: ${name} is taken for copied from n${from}, and is not`);
      subscription.tables.delete(name);
      this.on(from).copySlots.delete(copySlotName(to, name));
    }
    subscription.stalled = false;
    subscription.enabled = true;
  }

  subscribe(from: NodeId, to: NodeId): void {
    if (this.on(from).slots.has(to)) throw new Error(`replication slot ${subscriptionName(from, to)} already exists`);
    this.on(from).slots.set(to, []);
    this.on(to).subscriptions.set(from, { tables: new Map(), marker: 0, applied: 0, enabled: true, stalled: false });
    this.refresh(from, to, false);
  }

  /**
   * The server ends. What it had sent has arrived, where somebody receives it: a commit was acknowledged on
   * the strength of that. Its half-finished transactions are gone.
   */
  crash(node: NodeId): void {
    for (const slot of this.at(node).slots.values()) for (const sent of slot) sent.atMs = Number.NEGATIVE_INFINITY;
    this.flow();
    this.end(node);
  }

  /** The server ends, and what it has not sent stays with it. */
  end(node: NodeId): void {
    for (const subscription of this.at(node).subscriptions.values()) subscription.stalled = false;
    const server = this.at(node);
    server.alive = false;
    server.locked.clear();
    server.holders.clear();
    server.snapshots.length = 0;
    server.writer = null;
  }

  // Tables.

  setGuard(node: NodeId, name: string, on: boolean): void {
    const replica = this.on(node).replicas.get(name);
    if (!replica) throw new Error(`relation tide_data.${name} does not exist on n${node}`);
    replica.guarded = on;
  }

  dropReplica(node: NodeId, name: string): void {
    const server = this.on(node);
    for (const [from, subscription] of server.subscriptions) {
      const sync = subscription.tables.get(name);
      if (sync && sync.copiedAtMs !== null) {
        throw new Error(
          `could not drop relation mapping of ${name} for ${subscriptionName(from, node)}: it is copying`,
        );
      }
      subscription.tables.delete(name);
    }
    for (const published of server.publications.values()) published.delete(name);
    server.replicas.delete(name);
    server.refused.delete(name);
  }

  createParent(node: NodeId, table: TableRecord): void {
    const server = this.on(node);
    if (server.parents.has(table.tid)) return;
    for (const { pid, leader } of table.partitions) {
      const name = partitionTable(table.tid, pid);
      const replica = server.replicas.get(name);
      if (leader === node && !replica) throw new Error(`tide_data.${name} does not exist on n${node}`);
      if (leader !== node && !server.foreignServers.has(foreignServerName(leader)))
        throw new Error(`n${node} has no server ${leader}`);
    }
    for (const { pid, leader } of table.partitions) {
      const name = partitionTable(table.tid, pid);
      const replica = server.replicas.get(name);
      if (leader === node && replica) {
        replica.guarded = false;
        server.hinges.set(name, { kind: 'local' });
      } else {
        server.foreign.set(remoteTable(table.tid, pid, leader), leader);
        server.hinges.set(name, { kind: 'node', node: leader });
      }
    }
    server.parents.set(table.tid, structuredClone(table));
  }

  dropParent(node: NodeId, tid: number): void {
    const server = this.on(node);
    const mine = (name: string) => name.startsWith(`t${tid}_p`);
    for (const [name, target] of server.hinges) {
      if (!mine(name)) continue;
      if (target?.kind === 'local') this.dropReplica(node, name);
      server.hinges.delete(name);
    }
    for (const name of server.foreign.keys()) if (mine(name)) server.foreign.delete(name);
    server.parents.delete(tid);
  }

  /** DROP FOREIGN TABLE, CASCADE or not, takes a partition away from its hinge without a word. */
  dropForeign(node: NodeId, foreignName: string): void {
    const server = this.on(node);
    if (!server.foreign.delete(foreignName)) return;
    for (const [name, target] of server.hinges) {
      if (target && targetName(name, target) === foreignName) server.hinges.set(name, null);
    }
  }

  /** Refused, as by `postgres/sql/hinge.ts`, where a hinge leads through it. */
  dropForeignServer(node: NodeId, name: string): void {
    const server = this.on(node);
    for (const [hinge, target] of server.hinges) {
      const through = target?.kind === 'node' ? foreignServerName(target.node) : target && targetName(hinge, target);
      if (through === name) throw tideError('SERVER_IN_USE', { server: name, hinge });
    }
    server.foreignServers.delete(name);
    for (const [foreignName, to] of server.foreign) {
      const uses = foreignName.includes('_fwd_') ? foreignName : foreignServerName(to);
      if (uses === name) this.dropForeign(node, foreignName);
    }
  }

  /** Everything of pgtide's kind on a server, as `tide doctor` reads it. */
  inventory(node: NodeId): Inventory {
    const server = this.at(node);
    const attached = new Set([...server.hinges].map(([name, target]) => target && targetName(name, target)));
    const orphans = [...this.servers.values()].flatMap((s) => [...s.slots.keys()].map((to) => [s.id, to] as const));
    return {
      publication: [...server.publications.keys()].map(publicationName),
      'published-table': [...server.publications].flatMap(([to, t]) =>
        [...t].map((n) => `${publicationName(to)}.${n}`),
      ),
      subscription: [...server.subscriptions.keys()].map((from) => subscriptionName(from, node)),
      slot: orphans.filter(([from]) => from === node).map(([from, to]) => subscriptionName(from, to)),
      origin: [],
      'replica-table': [...server.replicas.keys()],
      'foreign-table': [...server.foreign.keys()].filter((name) => !attached.has(name)),
      server: [...server.foreignServers],
      parent: [...server.parents.keys()].map(String),
    };
  }

  /** Removes one thing that `inventory` names, as `tide doctor --fix` does. */
  removeObject(node: NodeId, kind: InventoryKind, name: string): void {
    const server = this.on(node);
    const numbers = name.split('.')[0]?.match(/\d+/g)?.map(Number) ?? [];
    const last = numbers.at(-1) ?? 0;
    if (kind === 'publication') server.publications.delete(last);
    else if (kind === 'published-table') server.publications.get(last)?.delete(name.split('.')[1] ?? '');
    else if (kind === 'subscription') server.subscriptions.delete(numbers[0] ?? 0);
    else if (kind === 'slot') server.slots.delete(last);
    else if (kind === 'replica-table') this.dropReplica(node, name);
    else if (kind === 'foreign-table') this.dropForeign(node, name);
    else if (kind === 'server') this.dropForeignServer(node, name);
    else if (kind === 'parent') this.dropParent(node, Number(name));
  }
}

function runs({ enabled, stalled }: Subscription): boolean {
  return enabled && !stalled;
}

export function copySlotName(to: NodeId, table: string): string {
  return `pg_n${to}_sync_${table}`;
}

function store(replica: Replica, seq: number): void {
  replica.rows.add(seq);
  replica.last = seq;
}

function forwardOf(name: string, epoch: number): string {
  const [tid = '', pid = ''] = name.slice(1).split('_p');
  return forwardName(Number(tid), Number(pid), epoch);
}

/** The child through which a hinge leads to its target. */
export function targetName(hinge: string, target: HingeTarget): string {
  if (target.kind === 'local') return hinge;
  return target.kind === 'node' ? `${hinge}_n${target.node}` : forwardOf(hinge, target.epoch);
}
