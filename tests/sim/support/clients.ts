import type { NodeId } from '../../../src/catalog/model.ts';
import { partitionTable } from '../../../src/catalog/names.ts';
import { protects } from '../../../src/catalog/quorum.ts';
import { allPartitions, ledPartitions } from '../../../src/catalog/view.ts';
import type { SimWorld } from './world.ts';

interface Commit {
  readonly name: string;
  readonly seq: number;
  readonly via: NodeId;
  /** Where it was written, and which PostgreSQL of that node. */
  readonly at: NodeId;
  readonly pid: number;
}

interface Row {
  readonly seq: number;
  /** The settings allowed it to be lost. */
  readonly atRisk: boolean;
}

/**
 * Clients that write through every node, and know what they were told. A commit is told when the server that
 * has it says so: at once, or when as many of its quorum have confirmed it as it waits for. A client whose
 * server or way there goes meanwhile knows nothing.
 */
export class Clients {
  readonly #world: SimWorld;
  readonly #open: Commit[] = [];
  readonly #told = new Map<string, Row[]>();
  /** How many of the rows told have been found in a replica's rows: those are never taken out again. */
  #found = new WeakMap<object, number>();
  /** Partitions whose rows an operator has given up. */
  readonly #forgiven = new Set<string>();
  /** Nodes that do not promise again what `durability` or `quorum_lost` have once let go. */
  readonly #unprotected = new Set<NodeId>();

  #paused = false;

  constructor(world: SimWorld) {
    this.#world = world;
  }

  /** Writes for as long as the world lasts, or until it is told to pause: then somebody else says when. */
  async run(everyMs: number): Promise<void> {
    while (!this.#paused) {
      await this.#world.clock.sleep(everyMs);
      if (!this.#paused) this.write();
    }
  }

  pause(): void {
    this.#paused = true;
  }

  /** One write of every partition, each through some node. */
  write(): void {
    const { random } = this.#world;
    for (const { tid, pid } of this.#partitions()) {
      const nodes = this.#entrances();
      if (nodes.length === 0) return;
      this.#statement(random.pick(nodes), partitionTable(tid, pid), this.#leaders(tid, pid));
    }
    this.hear();
  }

  #partitions() {
    return [...allPartitions(this.#world.mirror.view)].filter((p) => p.table.state === 'ready').map((p) => p.partition);
  }

  /** Nodes that clients may be connected to. */
  #entrances(): NodeId[] {
    return [...this.#world.machines.values()].filter((m) => m.upToDate && m.server.answers).map((m) => m.id);
  }

  /** Who may accept writes: the leader by the catalog, and the next one of a change whose swing has begun. */
  #leaders(tid: number, pid: number): NodeId[] {
    const { mirror } = this.#world;
    const changing = [...mirror.operations.values()].filter(
      ({ endedMs, input, began, data }) =>
        endedMs === null && input.tid === tid && input.pid === pid && began === 'swing' && data.source !== undefined,
    );
    return [mirror.partition(tid, pid)?.leader ?? 0, ...changing.map((r) => Number(r.input.to))];
  }

  #statement(via: NodeId, name: string, leaders: readonly NodeId[]): void {
    const world = this.#world;
    const reached = world.cluster.follow(via, name);
    if (reached === 'waits') world.count('statements that wait');
    else if ('problem' in reached) this.#lost(via, name, reached.problem);
    else this.#commit(via, name, reached.node, leaders);
  }

  #commit(via: NodeId, name: string, node: NodeId, leaders: readonly NodeId[]): void {
    const world = this.#world;
    const replica = world.cluster.at(node).replicas.get(name);
    if (!replica || replica.guarded) {
      world.problem(`${name} through n${via}: n${node} ${replica ? 'is not the leader' : 'holds no rows'}`);
      return;
    }
    if (!leaders.includes(node)) world.problem(`${name} is written on n${node}, which n${leaders} may lead`);
    this.verify(name, node);
    if (world.cluster.at(node).refused.has(name)) {
      world.count('writes refused');
      return;
    }
    const seq = world.cluster.write(node, name);
    world.count('writes');
    this.#open.push({ name, seq, via, at: node, pid: world.machine(node).pid });
  }

  /** A table that was made while the node was cut off is not there yet: an error, and no wrong answer. */
  #lost(via: NodeId, name: string, problem: string): void {
    if (problem.endsWith('no hinge')) this.#world.count('statements on a table that is not there yet');
    else this.#world.problem(`a statement on ${name} through n${via} failed: ${problem}`);
  }

  /** What has been confirmed by now is told; what nobody will ever hear of is forgotten. */
  hear(): void {
    const { cluster, mirror } = this.#world;
    for (let i = 0; i < this.#open.length; ) {
      const commit = this.#open[i] as Commit;
      const { at, name, seq, via } = commit;
      const machine = this.#world.machine(at);
      const server = machine.server;
      // Whoever makes a server refuse writes ends those that wait there.
      const isEnded = server.refused.has(name);
      const broken = isEnded || !server.serves || machine.pid !== commit.pid || !cluster.at(via).serves;
      if (!broken && (server.frozen || cluster.at(via).frozen || !cluster.linked(via, at))) {
        i += 1;
        continue;
      }
      const { count, nodes } = server.quorum;
      if (!broken && nodes.filter((n) => cluster.hasConfirmed(at, n, seq)).length < count) {
        i += 1;
        continue;
      }
      this.#open.splice(i, 1);
      if (broken) {
        this.#world.count('commits with an unknown outcome');
        continue;
      }
      const { durability, quorum_lost } = mirror.view.settings;
      const atRisk = durability === 'async' || quorum_lost === 'allow' || this.#stillUnprotected(at);
      const told = this.#told.get(name) ?? [];
      told.push({ seq, atRisk });
      this.#told.set(name, told);
      this.#world.count(atRisk ? 'commits told without protection' : 'commits told');
    }
  }

  /** Settings have changed: until a node's quorum is as they want it, what it tells is not promised. */
  settingsChanged(): void {
    for (const id of this.#world.machines.keys()) this.#unprotected.add(id);
  }

  #stillUnprotected(node: NodeId): boolean {
    if (!this.#unprotected.has(node)) return false;
    const { quorum, refused } = this.#world.cluster.at(node);
    const led = ledPartitions(this.#world.mirror.view).get(node) ?? [];
    const bare = led.some((p) => {
      const followers = p.replicas.filter((r) => r.state === 'ready' && r.node !== node).map((r) => r.node);
      const isRefused = refused.has(partitionTable(p.tid, p.pid));
      return !isRefused && followers.length > 0 && !protects(quorum, followers);
    });
    if (!bare) this.#unprotected.delete(node);
    return bare;
  }

  /** An operator has given up rows of a partition, by its name. */
  forgive(name: string): void {
    this.#forgiven.add(name);
  }

  /** The table is gone with all its rows. */
  forget(tid: number): void {
    for (const name of this.#told.keys()) if (name.startsWith(`t${tid}_p`)) this.#told.delete(name);
  }

  /** Whether a node that leads has every row that a client was told of. */
  verify(name: string, node: NodeId): void {
    const world = this.#world;
    const replica = world.cluster.at(node).replicas.get(name);
    const told = this.#told.get(name) ?? [];
    if (!replica) return;
    const missing = told.slice(this.#found.get(replica) ?? 0).filter((row) => !replica.rows.has(row.seq));
    if (missing.length === 0) {
      this.#found.set(replica, told.length);
      return;
    }
    const promised = missing.filter((row) => !row.atRisk);
    if (promised.length > 0 && !this.#forgiven.has(name))
      world.problem(`n${node} leads ${name} and lacks ${promised.length} of ${told.length} acknowledged rows`);
    world.count('rows lost that nobody had promised', missing.length);
    this.#told.set(
      name,
      told.filter((row) => !missing.includes(row)),
    );
    this.#found = new WeakMap();
  }

  /** Every way leads to the same leader, which has every row. */
  look(): void {
    const entrances = this.#entrances();
    for (const { tid, pid } of this.#partitions()) {
      const name = partitionTable(tid, pid);
      const reached = new Set<NodeId>();
      for (const via of entrances) {
        const found = this.#world.cluster.follow(via, name);
        if (found !== 'waits' && 'node' in found) reached.add(found.node);
      }
      if (reached.size > 1) this.#world.problem(`${name} is led by ${[...reached].map((n) => `n${n}`).join(' and ')}`);
      for (const node of reached) this.verify(name, node);
    }
  }
}
