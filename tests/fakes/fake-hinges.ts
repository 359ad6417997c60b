import type { NodeId, TableRecord } from '../../src/catalog/model.ts';
import { foreignServerName, forwardName, partitionTable, remoteTable } from '../../src/catalog/names.ts';
import type { Hinges, HingeTarget, Markers, PartitionRef, SwingAttempt } from '../../src/operations/ports.ts';
import { type FakeCluster, targetName } from './fake-cluster.ts';
import type { Effect } from './fake-server.ts';

const nameOf = ({ tid, pid }: PartitionRef) => partitionTable(tid, pid);

/** In the order of postgres/hinges.ts. */
export class FakeHinges implements Hinges {
  readonly #cluster: FakeCluster;
  readonly #effect: Effect;
  readonly #markers: Markers;

  constructor(cluster: FakeCluster, effect: Effect, markers: Markers) {
    this.#cluster = cluster;
    this.#effect = effect;
    this.#markers = markers;
  }

  async read(node: NodeId, ref: PartitionRef): Promise<HingeTarget | null> {
    return this.#cluster.on(node).hinges.get(nameOf(ref)) ?? null;
  }

  async readAll(node: NodeId): Promise<Map<string, HingeTarget>> {
    return new Map([...this.#cluster.on(node).hinges].flatMap(([name, target]) => (target ? [[name, target]] : [])));
  }

  async point(node: NodeId, table: TableRecord, pid: number, to: HingeTarget): Promise<SwingAttempt> {
    const server = this.#cluster.on(node);
    const name = partitionTable(table.tid, pid);
    const from = server.hinges.get(name);
    if (!from || targetName(name, from) === targetName(name, to)) return { outcome: 'done', pauseMs: 0 };
    if (to.kind === 'node') await this.ensureForeignServer(node, to.node);
    if ((server.holders.get(name) ?? []).length > 0) return { outcome: 'backed-off', pauseMs: 1, why: 'lock' };
    await this.#effect(`n${node}: point ${name} to ${to.kind === 'node' ? `n${to.node}` : to.kind}`, () => {
      this.#cluster.on(node);
      if (to.kind === 'node') server.foreign.set(remoteTable(table.tid, pid, to.node), to.node);
      server.hinges.set(name, to);
      if (from.kind === 'node') this.#cluster.dropForeign(node, targetName(name, from));
    });
    return { outcome: 'done', pauseMs: 1 };
  }

  async swing(
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
      const marker = await this.#markers.write(source);
      const arrived = await Promise.all(
        swing.followers.map((f) => this.#markers.arrives(f, source, marker, swing.budgetMs).catch(() => false)),
      );
      if (!arrived.every(Boolean)) return backedOff('lag');
      await this.#effect(`n${source}: swing ${name} to its forward`, () => {
        server.hinges.set(name, { kind: 'forward', epoch: swing.epoch });
        this.#cluster.setGuard(source, name, true);
      });
    } finally {
      server.locked.delete(name);
    }
    return { outcome: 'done', pauseMs: this.#cluster.clock.nowMs() - startMs };
  }

  async createForward(from: NodeId, to: NodeId, table: TableRecord, pid: number, epoch: number): Promise<void> {
    const server = this.#cluster.on(from);
    const name = forwardName(table.tid, pid, epoch);
    if (!server.foreignServers.has(name))
      await this.#effect(`n${from}: create server ${name}`, () => server.foreignServers.add(name));
    if (!server.foreign.has(name)) await this.#effect(`n${from}: create ${name}`, () => server.foreign.set(name, to));
  }

  async dropForward(from: NodeId, ref: PartitionRef, epoch: number): Promise<void> {
    const name = forwardName(ref.tid, ref.pid, epoch);
    if (!this.#cluster.on(from).foreignServers.has(name)) return;
    await this.#effect(`n${from}: drop ${name}`, () => this.#cluster.dropForeignServer(from, name));
  }

  async dropLooseForwards(node: NodeId): Promise<void> {
    const server = this.#cluster.on(node);
    const used = new Set([...server.hinges].map(([name, target]) => target && targetName(name, target)));
    for (const name of [...server.foreignServers].filter((n) => n.includes('_fwd_') && !used.has(n)))
      await this.#effect(`n${node}: drop ${name}`, () => this.#cluster.dropForeignServer(node, name));
  }

  async ensureForeignServer(from: NodeId, to: NodeId): Promise<void> {
    const { foreignServers } = this.#cluster.on(from);
    if (!foreignServers.has(foreignServerName(to)))
      await this.#effect(`n${from}: create server n${to}`, () => foreignServers.add(foreignServerName(to)));
  }

  async dropForeignServer(from: NodeId, to: NodeId): Promise<void> {
    if (!this.#cluster.on(from).foreignServers.has(foreignServerName(to))) return;
    await this.#effect(`n${from}: drop server n${to}`, () =>
      this.#cluster.dropForeignServer(from, foreignServerName(to)),
    );
  }
}
