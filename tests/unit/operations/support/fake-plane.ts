import type { NodeId, Quorum, TableRecord } from '../../../../src/catalog/model.ts';
import {
  forwardName,
  parsePartitionTable,
  partitionTable,
  remoteTable,
  serverName,
  subscriptionName,
} from '../../../../src/catalog/names.ts';
import { tideError } from '../../../../src/core/errors.ts';
import type { LocalData } from '../../../../src/core/local-data.ts';
import { KeyedMutex } from '../../../../src/core/mutex.ts';
import type { DataPlane, HingeTarget, PartitionRef, SwingAttempt } from '../../../../src/operations/ports.ts';
import { copySlotName, type FakeCluster, targetName } from './fake-cluster.ts';

/**
 * Stands around every single change of a server: where a test fails it, loses its answer or kills the
 * manager.
 */
export type Effect = (label: string, change: () => void) => Promise<void>;

const nameOf = ({ tid, pid }: PartitionRef) => partitionTable(tid, pid);

const STREAM_BEHIND_MS = 5_000;

/**
 * The data plane on fake servers: the same calls made of the same statements, in the order of
 * postgres/data-plane.ts.
 */
export class FakePlane implements DataPlane {
  readonly #cluster: FakeCluster;
  readonly #effect: Effect;
  readonly #pairs = new KeyedMutex();

  constructor(cluster: FakeCluster, effect: Effect) {
    this.#cluster = cluster;
    this.#effect = effect;
  }

  async bootstrap(node: NodeId): Promise<void> {
    const server = this.#cluster.on(node);
    if (server.bootstrapped) return;
    await this.#effect(`n${node}: bootstrap`, () => {
      server.bootstrapped = true;
    });
  }

  async useOwnRoles(): Promise<void> {}

  async weakenClients(): Promise<'already'> {
    return 'already';
  }

  async ensureServer(from: NodeId, to: NodeId): Promise<void> {
    const { servers } = this.#cluster.on(from);
    if (!servers.has(serverName(to)))
      await this.#effect(`n${from}: create server n${to}`, () => servers.add(serverName(to)));
  }

  async dropServer(from: NodeId, to: NodeId): Promise<void> {
    if (!this.#cluster.on(from).servers.has(serverName(to))) return;
    await this.#effect(`n${from}: drop server n${to}`, () => this.#cluster.dropServer(from, serverName(to)));
  }

  async createParent(node: NodeId, table: TableRecord): Promise<void> {
    if (await this.parentExists(node, table)) return;
    await this.#effect(`n${node}: create parent ${table.name}`, () => this.#cluster.createParent(node, table));
  }

  async parentExists(node: NodeId, table: TableRecord): Promise<boolean> {
    return this.#cluster.on(node).parents.has(table.tid);
  }

  async dropParent(node: NodeId, table: TableRecord): Promise<void> {
    if (!(await this.parentExists(node, table))) return;
    await this.#effect(`n${node}: drop parent ${table.name}`, () => this.#cluster.dropParent(node, table.tid));
  }

  async createReplica(node: NodeId, table: TableRecord, pid: number): Promise<void> {
    const { replicas } = this.#cluster.on(node);
    const name = partitionTable(table.tid, pid);
    if (replicas.has(name)) return;
    await this.#effect(`n${node}: create ${name}`, () =>
      replicas.set(name, { guarded: true, rows: new Set(), last: 0 }),
    );
  }

  async replicaExists(node: NodeId, ref: PartitionRef): Promise<boolean> {
    return this.#cluster.on(node).replicas.has(nameOf(ref));
  }

  async dropReplica(node: NodeId, ref: PartitionRef): Promise<void> {
    const server = this.#cluster.on(node);
    const name = nameOf(ref);
    if (server.hinges.get(name)?.kind === 'local') throw tideError('REPLICA_IN_USE', { replica: name, node });
    if (!server.replicas.has(name)) return;
    await this.#effect(`n${node}: drop ${name}`, () => this.#cluster.dropReplica(node, name));
  }

  async setGuard(node: NodeId, ref: PartitionRef, on: boolean): Promise<void> {
    await this.#effect(`n${node}: guard of ${nameOf(ref)} ${on ? 'on' : 'off'}`, () => this.#guard(node, ref, on));
  }

  #guard(node: NodeId, ref: PartitionRef, on: boolean): void {
    const replica = this.#cluster.on(node).replicas.get(nameOf(ref));
    if (!replica) throw new Error(`relation tide_data.${nameOf(ref)} does not exist on n${node}`);
    replica.guarded = on;
  }

  async localData(node: NodeId): Promise<LocalData[]> {
    return this.#cluster.on(node).localData;
  }

  async replicaBytes(node: NodeId, ref: PartitionRef): Promise<number> {
    return 8192 * (this.#cluster.on(node).replicas.get(nameOf(ref))?.rows.size ?? 0);
  }

  async connectPair(from: NodeId, to: NodeId, isCounted: () => boolean): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, async () => {
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

  async hasStream(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, async () => this.#isEnabled(from, to));
  }

  async isWhole(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, async () => this.#isWhole(from, to));
  }

  #isEnabled(from: NodeId, to: NodeId): boolean {
    return this.#cluster.on(to).subscriptions.get(from)?.enabled === true;
  }

  #isWhole(from: NodeId, to: NodeId): boolean {
    return this.#isEnabled(from, to) && this.#cluster.on(from).slots.has(to);
  }

  async disconnectPair(from: NodeId, to: NodeId, gone?: NodeId): Promise<void> {
    await this.#pairs.run(`${from}>${to}`, async () => {
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

  async published(from: NodeId, to: NodeId): Promise<PartitionRef[]> {
    return [...this.#published(from, to)].map(parsePartitionTable);
  }

  async streams(from: NodeId, to: NodeId): Promise<Map<string, 'copying' | 'ready'>> {
    this.#cluster.flow();
    const published = this.#published(from, to);
    const flowing = [...this.#subscribed(from, to)].filter(([name]) => published.has(name));
    return new Map(flowing.map(([name, sync]) => [name, sync.copiedAtMs === null ? 'ready' : 'copying']));
  }

  async streamState(from: NodeId, to: NodeId, ref: PartitionRef): Promise<'none' | 'copying' | 'ready'> {
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

  async startStreams(from: NodeId, to: NodeId, refs: readonly PartitionRef[], copy: boolean): Promise<void> {
    await this.#pairs.run(`${from}>${to}`, async () => {
      const published = new Set(this.#published(from, to));
      const subscribed = new Set(this.#subscribed(from, to).keys());
      const missing = refs.map(nameOf).filter((n) => !published.has(n) || !subscribed.has(n));
      if (missing.length === 0) return;
      const strangers = [...published].filter((t) => !missing.includes(t) && !subscribed.has(t));
      await this.#unpublish(from, to, strangers);
      if (!copy && !(await this.awaitMarker(to, from, await this.writeMarker(from), STREAM_BEHIND_MS)))
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

  async stopStream(from: NodeId, to: NodeId, ref: PartitionRef): Promise<void> {
    await this.#pairs.run(`${from}>${to}`, async () => {
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
    await this.#pairs.run(`${from}>${to}`, async () => {
      if (this.#published(from, to).has(nameOf(ref))) await this.#unpublish(from, to, [nameOf(ref)]);
    });
  }

  async copySlot(_from: NodeId, to: NodeId, ref: PartitionRef): Promise<string> {
    this.#cluster.on(to);
    return copySlotName(to, nameOf(ref));
  }

  async keptWal(from: NodeId): Promise<number> {
    return this.#cluster.on(from).keptBytes;
  }

  async dropSlot(node: NodeId, slot: string): Promise<void> {
    const { slots, copySlots } = this.#cluster.on(node);
    if (copySlots.has(slot)) await this.#effect(`n${node}: drop slot ${slot}`, () => copySlots.delete(slot));
    for (const to of slots.keys()) {
      if (subscriptionName(node, to) === slot)
        await this.#effect(`n${node}: drop slot of n${to}`, () => slots.delete(to));
    }
  }

  async writeMarker(node: NodeId): Promise<string> {
    this.#cluster.on(node);
    return String(this.#cluster.writeMarker(node));
  }

  async awaitMarker(at: NodeId, from: NodeId, value: string, timeoutMs: number): Promise<boolean> {
    const { clock } = this.#cluster;
    const untilMs = clock.nowMs() + timeoutMs;
    for (let pauseMs = 2; ; pauseMs *= 2) {
      this.#cluster.flow();
      if ((this.#cluster.on(at).subscriptions.get(from)?.marker ?? 0) >= Number(value)) return true;
      if (clock.nowMs() >= untilMs) return false;
      await clock.sleep(Math.min(pauseMs, untilMs - clock.nowMs()));
    }
  }

  async readHinge(node: NodeId, ref: PartitionRef): Promise<HingeTarget | null> {
    return this.#cluster.on(node).hinges.get(nameOf(ref)) ?? null;
  }

  async readHinges(node: NodeId): Promise<Map<string, HingeTarget>> {
    return new Map([...this.#cluster.on(node).hinges].flatMap(([name, target]) => (target ? [[name, target]] : [])));
  }

  async createForward(from: NodeId, to: NodeId, table: TableRecord, pid: number, epoch: number): Promise<void> {
    const server = this.#cluster.on(from);
    const name = forwardName(table.tid, pid, epoch);
    if (!server.servers.has(name))
      await this.#effect(`n${from}: create server ${name}`, () => server.servers.add(name));
    if (!server.foreign.has(name)) await this.#effect(`n${from}: create ${name}`, () => server.foreign.set(name, to));
  }

  async dropForward(from: NodeId, ref: PartitionRef, epoch: number): Promise<void> {
    const name = forwardName(ref.tid, ref.pid, epoch);
    if (!this.#cluster.on(from).servers.has(name)) return;
    await this.#effect(`n${from}: drop ${name}`, () => this.#cluster.dropServer(from, name));
  }

  async swingLeader(
    source: NodeId,
    ref: PartitionRef,
    swing: { epoch: number; followers: readonly NodeId[]; budgetMs: number },
  ): Promise<SwingAttempt> {
    const server = this.#cluster.on(source);
    const name = nameOf(ref);
    const startMs = this.#cluster.clock.nowMs();
    const backedOff = (why: 'lock' | 'lag') =>
      ({ outcome: 'backed-off', pauseMs: this.#cluster.clock.nowMs() - startMs, why }) as const;
    if ((server.holders.get(name) ?? []).length > 0) return backedOff('lock');
    if (!server.foreign.has(forwardName(ref.tid, ref.pid, swing.epoch)))
      throw new Error(`${name} has no forward to swing to`);
    server.locked.add(name);
    try {
      const marker = await this.writeMarker(source);
      const arrived = await Promise.all(
        swing.followers.map((f) => this.awaitMarker(f, source, marker, swing.budgetMs).catch(() => false)),
      );
      if (!arrived.every(Boolean)) return backedOff('lag');
      await this.#effect(`n${source}: swing ${name} to its forward`, () => {
        server.hinges.set(name, { kind: 'forward', epoch: swing.epoch });
        this.#guard(source, ref, true);
      });
    } finally {
      server.locked.delete(name);
    }
    return { outcome: 'done', pauseMs: this.#cluster.clock.nowMs() - startMs };
  }

  async pointHinge(node: NodeId, table: TableRecord, pid: number, to: HingeTarget): Promise<SwingAttempt> {
    const server = this.#cluster.on(node);
    const name = partitionTable(table.tid, pid);
    const from = server.hinges.get(name);
    if (!from || targetName(name, from) === targetName(name, to)) return { outcome: 'done', pauseMs: 0 };
    if (to.kind === 'node') await this.ensureServer(node, to.node);
    if ((server.holders.get(name) ?? []).length > 0) return { outcome: 'backed-off', pauseMs: 1, why: 'lock' };
    await this.#effect(`n${node}: point ${name} to ${to.kind === 'node' ? `n${to.node}` : to.kind}`, () => {
      this.#cluster.on(node);
      if (to.kind === 'node') server.foreign.set(remoteTable(table.tid, pid, to.node), to.node);
      server.hinges.set(name, to);
      if (from.kind === 'node') this.#cluster.dropForeign(node, targetName(name, from));
    });
    return { outcome: 'done', pauseMs: 1 };
  }

  async cutStream(from: NodeId, to: NodeId): Promise<number | null> {
    return this.#pairs.run(`${from}>${to}`, () => this.#disable(from, to));
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

  async resumeStream(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, async () => {
      const subscription = this.#cluster.on(to).subscriptions.get(from);
      if (!subscription || !this.#cluster.on(from).slots.has(to)) return false;
      if (!subscription.enabled)
        await this.#effect(`n${to}: let the stream from n${from} go on`, () => {
          subscription.enabled = true;
        });
      return true;
    });
  }

  async renewStream(from: NodeId, to: NodeId): Promise<boolean> {
    return this.#pairs.run(`${from}>${to}`, async () => {
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

  async listReplicas(node: NodeId): Promise<PartitionRef[]> {
    return [...this.#cluster.on(node).replicas.keys()].map((name) => {
      const [tid, pid] = name.slice(1).split('_p');
      return { tid: Number(tid), pid: Number(pid) };
    });
  }

  async dropLooseForwards(node: NodeId): Promise<void> {
    const server = this.#cluster.on(node);
    const used = new Set([...server.hinges].map(([name, target]) => target && targetName(name, target)));
    for (const name of [...server.servers].filter((n) => n.includes('_fwd_') && !used.has(n)))
      await this.#effect(`n${node}: drop ${name}`, () => this.#cluster.dropServer(node, name));
  }

  async endHolders(node: NodeId, ref: PartitionRef): Promise<void> {
    const { holders } = this.#cluster.on(node);
    if (holders.has(nameOf(ref)))
      await this.#effect(`n${node}: end who holds ${nameOf(ref)}`, () => holders.delete(nameOf(ref)));
  }

  async lockHolders(node: NodeId, ref: PartitionRef) {
    return this.#cluster.on(node).holders.get(nameOf(ref)) ?? [];
  }

  async olderSnapshots(node: NodeId, mark: string) {
    return this.#cluster.on(node).snapshots.filter((s) => s.sinceMs <= Number(mark));
  }

  async oldestWriter(node: NodeId) {
    return this.#cluster.on(node).writer;
  }

  async snapshotMark(node: NodeId): Promise<string> {
    this.#cluster.on(node);
    return String(this.#cluster.clock.nowMs());
  }

  async readQuorum(node: NodeId): Promise<Quorum | null> {
    return this.#cluster.on(node).quorum;
  }

  async setQuorum(node: NodeId, quorum: Quorum): Promise<void> {
    const server = this.#cluster.on(node);
    const nodes = quorum.nodes.map((n) => `n${n}`).join(', ');
    await this.#effect(`n${node}: commits wait for ${quorum.count} of ${nodes || 'nobody'}`, () => {
      server.quorum = quorum;
    });
  }

  async refusals(node: NodeId): Promise<Map<string, 'on' | 'off'>> {
    return new Map([...this.#cluster.on(node).refused].map((name) => [name, 'on']));
  }

  async refuseWrites(node: NodeId, ref: PartitionRef): Promise<void> {
    const server = this.#cluster.on(node);
    const name = nameOf(ref);
    if ((server.holders.get(name) ?? []).length > 0) throw new Error(`${name} is in use: lock timeout`);
    if (!server.replicas.has(name)) throw new Error(`relation tide_data.${name} does not exist on n${node}`);
    await this.#effect(`n${node}: ${name} refuses writes`, () => server.refused.add(name));
  }

  async takeWrites(node: NodeId, ref: PartitionRef): Promise<void> {
    const server = this.#cluster.on(node);
    await this.#effect(`n${node}: ${nameOf(ref)} takes writes`, () => server.refused.delete(nameOf(ref)));
  }
}
