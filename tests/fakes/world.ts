import type { ClusterView, LoadView, NodeId, TableRecord } from '../../src/catalog/model.ts';
import { foreignServerName, partitionTable } from '../../src/catalog/names.ts';
import { mayBeAway } from '../../src/catalog/quorum.ts';
import { allPartitions, connectedNodes, isOut, partitionKey } from '../../src/catalog/view.ts';
import { tideError } from '../../src/core/errors.ts';
import { CatalogStore } from '../../src/manager/catalog-store.ts';
import { Promotions } from '../../src/manager/promotions.ts';
import { Reconciler } from '../../src/manager/reconcile.ts';
import type { CopyData, LeaderData } from '../../src/operations/data.ts';
import { Journal } from '../../src/operations/journal.ts';
import { hasEnded } from '../../src/operations/machine.ts';
import type { OperationRecord } from '../../src/operations/operation.ts';
import { OPERATION_KINDS } from '../../src/operations/registry.ts';
import { Runner } from '../../src/operations/runner.ts';
import type { RunnerPorts } from '../../src/operations/runner-ports.ts';
import { MemoryStore } from '../../src/store/memory-store.ts';
import type { MetaStore } from '../../src/store/meta-store.ts';
import { FakeCluster } from './fake-cluster.ts';
import { FakePlane } from './fake-plane.ts';
import type { Effect } from './fake-server.ts';
import { ManualClock } from './manual-clock.ts';
import { nodeRecord } from './records.ts';
import { storeLabel } from './store-label.ts';

/**
 * What befalls the effect of number `at` (1 is the first):
 * - `fails`: it does not happen, for a reason that passes; `refused`: for one that does not
 * - `answer-lost`: it happens, and the caller sees a broken connection
 * - `manager-killed`: it happens, the manager dies, and a new one starts on the same store
 * - `cancelled`: somebody cancels the operation at that moment
 * - `node-dies`: it happens, and then the server of `node` ends for good
 */
export interface Fault {
  readonly at: number;
  readonly mode: 'fails' | 'refused' | 'answer-lost' | 'manager-killed' | 'cancelled' | 'node-dies';
  /** Who dies. */
  readonly node?: NodeId;
  /** Another fault, counted from the same beginning. */
  readonly next?: Fault;
}

/** One manager process: everything it does stops for good when it is killed. */
interface Manager {
  killed: boolean;
  catalog: CatalogStore;
  runner: Runner;
}

const LIMIT_MS = 3_600_000;
/** As often does a manager look whether every quorum is as it has to be. */
const QUORUM_MS = 300;
const never = new Promise<never>(() => {});

/**
 * Fake servers, a memory store and real managers, one after the other, with the real journal, runner and
 * kinds of operations.
 */
export class World {
  readonly clock = new ManualClock();
  readonly store = new MemoryStore();
  readonly cluster: FakeCluster;
  /** Effects since the fault was armed, in order: what a golden shows and a fault counts. */
  readonly effects: string[] = [];
  readonly errors: string[] = [];
  fault: Fault | null = null;
  /** Nodes that took no part in an operation have their hinges pointed anew when it has ended. */
  hingesFollow = false;
  /** Of disks of 1 TB; 900 GB where nothing is said. */
  readonly freeBytes = new Map<NodeId, number>();
  #manager: Manager | null = null;
  #armed = false;
  #root = 0;
  #settledMs = 0;
  /** They have missed what was done while they were away. */
  readonly #returned = new Set<NodeId>();

  private constructor(nodes: readonly NodeId[]) {
    this.cluster = new FakeCluster(this.clock, nodes);
  }

  /** A settled cluster of these nodes and tables. */
  static async settled(nodes: readonly NodeId[], tables: readonly TableRecord[] = []): Promise<World> {
    const world = new World(nodes);
    await CatalogStore.initialise(world.store, { clusterId: 'test', startMode: 'start' });
    await world.boot();
    for (const id of nodes) await world.addNode(id);
    for (const table of tables) await world.clock.during(world.addTable(table));
    await world.settleQuorums();
    world.cluster.clients = () => ({
      nodes: connectedNodes(world.view)
        .filter((n) => n.state !== 'joining')
        .map((n) => n.id),
      tids: [...world.view.tables.values()].filter((t) => t.state === 'ready').map((t) => t.tid),
    });
    world.cluster.replicasInStep = (name) =>
      [...allPartitions(world.view)]
        .filter(({ partition, table }) => partitionTable(table.tid, partition.pid) === name)
        .flatMap(({ partition }) =>
          partition.replicas
            .filter((r) => r.state === 'ready' && !mayBeAway(world.view, partition, r.node))
            .map((r) => r.node),
        );
    world.cluster.traffic();
    world.arrive();
    return world;
  }

  /** What a manager does in the background, several times a second. */
  async settleQuorums(): Promise<void> {
    let isIdle = false;
    const settle = async () => {
      // What an earlier round is still at, it began with an older wish.
      await this.runner.quorums.idle();
      this.runner.quorums.round();
      await this.runner.quorums.idle();
      isIdle = true;
    };
    void settle();
    for (;;) {
      await turn();
      if (isIdle) return;
      this.clock.advance();
      this.cluster.flow();
    }
  }

  /** What is still on its way arrives. */
  arrive(): void {
    for (let round = 0; round < 5; round++) {
      void this.clock.sleep(50);
      this.clock.advance();
      this.cluster.flow();
    }
  }

  async addNode(id: NodeId): Promise<void> {
    await this.catalog.commit([{ kind: 'node-added', node: nodeRecord(id) }]);
    const plane = this.plane();
    await plane.nodes.bootstrap(id);
    for (const other of this.view.nodes.keys()) {
      if (other === id) continue;
      this.cluster.at(id).foreignServers.add(foreignServerName(other));
      this.cluster.at(other).foreignServers.add(foreignServerName(id));
    }
  }

  async addTable(table: TableRecord): Promise<void> {
    const plane = this.plane();
    for (const { tid, pid, replicas } of table.partitions) {
      for (const a of replicas) await plane.replicas.create(a.node, table, pid);
      for (const a of replicas) {
        for (const b of replicas.filter((r) => r.node !== a.node)) {
          await plane.streams.connect(a.node, b.node, () => false);
          await plane.streams.start(a.node, b.node, [{ tid, pid }], false);
        }
      }
    }
    for (const node of this.view.nodes.keys()) await plane.parents.create(node, table);
    await this.catalog.commit([{ kind: 'table-added', table: { ...table, state: 'ready' } }]);
  }

  /** Calls that no fault befalls: what somebody else has done before. */
  plane(): FakePlane {
    return new FakePlane(this.cluster, async (_label, change) => change());
  }

  get catalog(): CatalogStore {
    if (!this.#manager) throw new Error('no manager runs');
    return this.#manager.catalog;
  }

  get view(): ClusterView {
    return this.catalog.view;
  }

  get runner(): Runner {
    if (!this.#manager) throw new Error('no manager runs');
    return this.#manager.runner;
  }

  get root(): OperationRecord {
    const record = this.runner.get(this.#root);
    if (!record) throw new Error(`operation ${this.#root} is not in the journal`);
    return record;
  }

  /** All that its steps remember. */
  get rootData(): LeaderData & CopyData {
    return this.root.data;
  }

  load(): LoadView {
    const nodes = [...this.cluster.servers.values()].map(({ id }) => {
      const diskFreeBytes = this.freeBytes.get(id) ?? 9e11;
      return [id, { node: id, alive: this.isAlive(id), diskTotalBytes: 1e12, diskFreeBytes }] as const;
    });
    const bytes = [...allPartitions(this.view)].map(
      ({ partition: { tid, pid } }) => [partitionKey(tid, pid), 8192] as const,
    );
    return { nodes: new Map(nodes), partitionBytes: new Map(bytes) };
  }

  isAlive(node: NodeId): boolean {
    const server = this.cluster.servers.get(node);
    return server?.serves === true && !isOut(this.view, node);
  }

  /**
   * What the manager does beside operations: a node that is cleaned up may serve, hinges are pointed at their
   * leaders (`#attend`).
   */
  #letServe(): void {
    if (!this.#manager) return;
    const deciding = this.runner.unended().filter((r) => r.kind === 'failover');
    for (const server of this.cluster.servers.values()) {
      if (isOut(this.view, server.id) || deciding.some((r) => r.input.node === server.id)) continue;
      server.fenced = false;
    }
  }

  async #attend(): Promise<void> {
    this.#letServe();
    if (!this.hingesFollow || this.runner.unended().length > 0) return;
    const reconciler = new Reconciler({
      plane: this.plane(),
      clock: this.clock,
      view: () => this.view,
      alive: (node) => this.isAlive(node),
      holderOf: () => undefined,
      isChoosing: () => false,
      promotions: new Promotions({ runner: this.runner, view: () => this.view }),
      commit: (changes) => this.catalog.commit(changes),
      quorums: this.runner.quorums,
      log: (_level, message, facts) => void this.errors.push(`${message} ${JSON.stringify(facts)}`),
      event: async ({ text }) => void this.errors.push(text),
    });
    reconciler.hear([{ kind: 'leader-changed', tid: 0, pid: 0, leader: 0 }]);
    for (const node of this.#returned) reconciler.nodeReturned(node);
    this.#returned.clear();
    await this.clock.during(reconciler.round());
  }

  /**
   * The server process of a node ends, with everything on its way from it; it comes back behind its fence.
   */
  crash(node: NodeId): void {
    this.cluster.crash(node);
  }

  comeBack(node: NodeId): void {
    this.cluster.at(node).alive = true;
    this.cluster.at(node).fenced = true;
    this.#returned.add(node);
  }

  /** A manager takes over: it knows what the store knows. */
  async boot(): Promise<void> {
    const manager = { killed: false } as Manager;
    const store = this.#storeOf(manager);
    manager.catalog = await CatalogStore.open(store);
    const ports: RunnerPorts = {
      clock: this.clock,
      random: () => 0.5,
      plane: new FakePlane(this.cluster, this.#effectOf(manager)),
      view: () => manager.catalog.view,
      load: () => this.load(),
      alive: (node) => this.isAlive(node),
      copyFailure: () => undefined,
      commit: (changes) => manager.catalog.commit(changes),
      event: async ({ kind, text }) => void (this.#armed && this.effects.push(`  event ${kind}: ${text}`)),
      broken: () => {},
      log: (level, message, facts) => {
        if (level !== 'info' && !manager.killed)
          this.errors.push(`${message} ${JSON.stringify({ ...facts, stack: undefined })}`);
      },
    };
    manager.runner = new Runner(await Journal.open(store), OPERATION_KINDS, ports);
    this.#manager = manager;
    manager.runner.resume();
  }

  /** The manager dies between two effects, and another takes over. */
  async restart(): Promise<void> {
    if (this.#manager) this.#kill(this.#manager);
    await this.boot();
  }

  /** The journal as a manager that starts now finds it. */
  journal(): Promise<Journal> {
    return Journal.open(this.store);
  }

  /**
   * What a kill leaves behind: transactions of the dead manager are rolled back by the servers' own timeouts.
   */
  #kill(manager: Manager): void {
    manager.killed = true;
    this.#manager = null;
    this.clock.forget();
    for (const server of this.cluster.servers.values()) server.locked.clear();
  }

  #storeOf(manager: Manager): MetaStore {
    return {
      get: (key) => (manager.killed ? never : this.store.get(key)),
      range: (prefix) => (manager.killed ? never : this.store.range(prefix)),
      isFull: this.store.isFull,
      close: async () => {},
      txn: async (request) => {
        if (manager.killed) return never;
        const result = await this.store.txn(request);
        for (const w of request.write) {
          // Written with every change of the catalog, which is told by itself.
          if ('put' in w && w.put !== '/catalog/version') this.#note(storeLabel(w.put, w.value as never));
        }
        const victim = this.fault?.node;
        if (victim !== undefined && this.#struck('node-dies')) this.crash(victim);
        if (this.#struck('manager-killed')) {
          this.#kill(manager);
          return never;
        }
        return result;
      },
    };
  }

  #effectOf(manager: Manager): Effect {
    return async (label, change) => {
      await Promise.resolve();
      if (manager.killed) return never;
      this.cluster.traffic();
      this.#note(label);
      if (this.#struck('fails')) throw tideError('NODE_UNREACHABLE', { node: 1, why: 'connection reset' });
      if (this.#struck('refused')) throw tideError('SQL_REFUSED', { why: 'no', sqlstate: '42501', statement: label });
      if (this.#struck('cancelled')) await this.runner.cancel(this.#root).catch(() => {});
      change();
      const victim = this.fault?.node;
      if (victim !== undefined && this.#struck('node-dies')) this.crash(victim);
      if (this.#struck('answer-lost')) throw new Error('Connection terminated unexpectedly');
      if (this.#struck('manager-killed')) {
        this.#kill(manager);
        return never;
      }
    };
  }

  #note(label: string): void {
    if (this.#armed && label !== '') this.effects.push(label);
  }

  /** What a fault can befall: all effects but events, which change nothing. */
  changes(): string[] {
    return this.effects.filter((e) => !e.startsWith('  event'));
  }

  /**
   * The fault befalls the effect that was noted last, once. Several that are written at once are one moment
   * for a node to die.
   */
  #struck(mode: Fault['mode']): boolean {
    if (!this.#armed || this.fault?.mode !== mode) return false;
    const passed = this.changes().length - this.fault.at;
    if (mode === 'node-dies' ? passed < 0 : passed !== 0) return false;
    this.fault = this.fault.next ?? null;
    return true;
  }

  /**
   * Starts an operation and lets time go on until everything has ended, with new managers where the fault
   * kills one.
   */
  async run(kind: string, input: object, fault: Fault | null = null): Promise<OperationRecord> {
    await this.begin(kind, input, fault);
    return this.finish();
  }

  async begin(kind: string, input: object, fault: Fault | null = null): Promise<void> {
    this.fault = fault;
    this.#root = Math.max(0, ...this.runner.all().map((r) => r.id)) + 1;
    this.#armed = true;
    void this.runner.submit(kind, input).catch((error) => this.errors.push(String(error)));
    await turn();
  }

  async finish(): Promise<OperationRecord> {
    await this.settle();
    return this.root;
  }

  /** Lets time go on until every operation has ended and what the manager does in the background is done. */
  async settle(): Promise<void> {
    await this.until(() => this.runner.unended().length === 0);
    this.#armed = false;
    await this.#attend();
    await this.settleQuorums();
    this.arrive();
  }

  /** Lets time go on until `reached`. */
  async until(reached: () => boolean): Promise<void> {
    const limitMs = this.clock.nowMs() + LIMIT_MS;
    for (;;) {
      await turn();
      if (!this.#manager) await this.boot();
      else if (reached()) return;
      else if (!this.clock.advance()) throw new Error(`nothing goes on: ${this.waits()}`);
      else if (this.clock.nowMs() > limitMs) throw new Error(`no end after an hour: ${this.waits()}`);
      this.#letServe();
      if (this.#manager && this.clock.nowMs() - this.#settledMs >= QUORUM_MS) {
        this.#settledMs = this.clock.nowMs();
        this.runner.quorums.round();
      }
      this.cluster.flow();
    }
  }

  /** What every operation waits for, for messages. */
  waits(): string {
    const said = this.runner.unended().map((r) => {
      const step = this.runner.kindOf(r).steps[r.step]?.name;
      return `${r.kind} ${r.subject} ${r.status} at ${step}: ${this.runner.live(r.id)?.waitsFor?.text ?? 'nothing'}`;
    });
    return [...said, ...this.errors.slice(-3)].join('\n');
  }

  allEnded(): boolean {
    return this.runner.all().every(hasEnded);
  }
}

/** Everything that can go on without time has gone on. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
