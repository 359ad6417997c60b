import type { NodeId } from '../../../src/catalog/model.ts';
import { must } from '../../../src/core/assert.ts';
import { messageOf } from '../../../src/core/errors.ts';
import { Manager } from '../../../src/manager/manager.ts';
import type { DataPlane } from '../../../src/operations/ports.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import type { Write } from '../../../src/store/meta-store.ts';
import { FakeCluster } from '../../fakes/fake-cluster.ts';
import { FakeServer } from '../../fakes/fake-server.ts';
import { ManualClock } from '../../fakes/manual-clock.ts';
import type { Random } from '../../fakes/random.ts';
import { Machine } from './machine.ts';
import { ManagerProcess } from './manager-process.ts';
import { Mirror } from './mirror.ts';
import { Network } from './network.ts';
import { planeThrough, SimInspector } from './wire.ts';

/** Something that happens at a change of some server: the `left`th from now. */
interface Armed {
  left: number;
  when: 'before' | 'after' | 'answer';
  strike(node: NodeId): void;
}

/** What the wrong manager log lines are: a defect, and no fault of the world can be blamed for it. */
const BROKEN = 'broken invariant';

const LAG_LASTS_MS = 700;
const LAG_MS = 200;

/**
 * Every stream has its own lag, another one in every spell: mostly a few milliseconds, sometimes nearly as
 * long as a swing may take.
 */
function lagMs(salt: number, from: NodeId, to: NodeId, spell: number): number {
  let x = Math.imul(salt ^ Math.imul(from * 31 + to, 0x9e3779b1) ^ Math.imul(spell, 0x85ebca6b), 0xc2b2ae35);
  x = Math.imul(x ^ (x >>> 15), 0x27d4eb2f);
  return 1 + LAG_MS * (((x ^ (x >>> 13)) >>> 0) / 2 ** 32) ** 4;
}

/**
 * Machines, the network between them, and one manager at a time, which is the real one over a store in
 * memory.
 */
export class SimWorld {
  readonly clock = new ManualClock();
  readonly network = new Network();
  readonly cluster: FakeCluster;
  readonly machines = new Map<NodeId, Machine>();
  readonly mirror = new Mirror();
  readonly random: Random;
  /**
   * Chance that the manager is given: its own, so that nothing in the world changes with how often it asks.
   */
  readonly #managersRandom: Random;
  readonly #beganMs: number;
  /** What must never be; the run ends at the first. */
  readonly problems: string[] = [];
  readonly trace: string[] = [];
  readonly counts = new Map<string, number>();
  readonly armed: Armed[] = [];
  /** Called after every change of a server, and before every write of the meta store is known. */
  onChange: () => void = () => {};
  onWrite: (write: Write) => void = () => {};
  /** What stands between every manager and the servers: where a test plants a defect. */
  wrap: (plane: DataPlane) => DataPlane = (plane) => plane;
  /** Where the meta store lies. */
  home: NodeId = 1;
  store = new MemoryStore();
  #manager: { process: ManagerProcess; manager: Manager | null } | null = null;

  constructor(random: Random) {
    this.random = random.fork();
    this.#managersRandom = random.fork();
    this.#beganMs = this.clock.nowMs();
    this.cluster = new FakeCluster(this.clock, []);
    const salt = random.int(1, 1_000_000);
    this.cluster.lagMs = (from, to) => lagMs(salt, from, to, Math.floor(this.nowMs / LAG_LASTS_MS));
    this.cluster.linked = (a, b) => this.network.linked(a, b) && this.machine(a).powered && this.machine(b).powered;
  }

  get nowMs(): number {
    return this.clock.nowMs() - this.#beganMs;
  }

  machine(node: NodeId): Machine {
    return must(this.machines.get(node), `machine ${node}`);
  }

  addMachine(id: NodeId): Machine {
    const server = new FakeServer(id);
    this.cluster.servers.set(id, server);
    const machine = new Machine(id, server);
    this.machines.set(id, machine);
    return machine;
  }

  say(line: string): void {
    this.trace.push(`${(this.nowMs / 1000).toFixed(3).padStart(9)} s  ${line}`);
  }

  count(what: string, by = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + by);
  }

  problem(text: string): void {
    if (this.problems.length === 0) this.say(`VIOLATED: ${text}`);
    this.problems.push(text);
  }

  /** What befalls the change of a server that is about to be made. */
  strikes(node: NodeId): { before(): void; after(): void; losesAnswer: boolean } {
    for (const armed of this.armed) armed.left -= 1;
    const due = this.armed.filter((a) => a.left <= 0);
    for (const armed of due) this.armed.splice(this.armed.indexOf(armed), 1);
    const strike = (when: Armed['when']) => () => {
      for (const armed of due) if (armed.when === when) armed.strike(node);
    };
    return { before: strike('before'), after: strike('after'), losesAnswer: due.some((a) => a.when === 'answer') };
  }

  changed(label: string): void {
    this.count('changes of servers');
    if (process.env.SIM_VERBOSE) this.say(`  ${label}`);
    this.onChange();
  }

  take(write: Write): void {
    this.onWrite(write);
    this.mirror.take(write);
    const [, id] = /^\/catalog\/node\/(\d+)$/.exec('put' in write ? write.put : '') ?? [];
    if (id !== undefined && !this.machines.has(Number(id))) this.#expect(Number(id));
  }

  /** A node that joins has its id before it knows it; if the answer is lost, nobody ever has it. */
  #expect(id: NodeId): void {
    const machine = this.addMachine(id);
    Object.assign(machine, { up: false, powered: false, lost: true, upToDate: false });
    machine.server.alive = false;
  }

  // The manager.

  /** The manager that runs now; null while there is none, or it starts. */
  get manager(): Manager | null {
    return this.#manager?.manager ?? null;
  }

  get managerProcess(): ManagerProcess | null {
    return this.#manager?.process ?? null;
  }

  async startManager(): Promise<void> {
    const { home } = this;
    const process = new ManagerProcess();
    const started = { process, manager: null as Manager | null };
    this.#manager = started;
    this.count('managers started');
    started.manager = await Manager.start(home, {
      shared: null,
      start: { id: 'sim', after: [], ended: [] },
      whoIs: async () => null,
      overtaken: () => {},
      broken: (error) => this.problem(`the manager cannot go on: ${error}`),
      store: process.store(this.store, (write) => this.take(write)),
      clock: process.clock(this.clock),
      random: () => this.#managersRandom.next(),
      log: (level, message, facts) => this.#log(process, level, message, facts),
      servers: ({ reachable }) => {
        const wire = { world: this, home, process, reachable };
        return {
          plane: this.wrap(planeThrough(wire)),
          inspector: new SimInspector(wire),
          close: async () => {},
          cut: () => {},
        };
      },
    });
  }

  #log(process: ManagerProcess, level: 'info' | 'warn' | 'error', message: string, facts: object): void {
    if (process.killed) return;
    const { error = '', operation = '', step = '' } = facts as Record<string, unknown>;
    if (level === 'error' || String(error).includes(BROKEN))
      this.problem(`the manager says: ${message} ${operation} ${step}: ${error}`);
  }

  /** Its transactions are rolled back by the servers' own timeouts. */
  killManager(): void {
    if (!this.#manager) return;
    this.#manager.process.killed = true;
    this.#manager.process.thaw();
    this.#manager = null;
    for (const { server } of this.machines.values()) server.locked.clear();
  }

  /**
   * The meta store moves to another node (`tide meta move`): the manager lets go, and another goes on there.
   */
  async moveManager(to: NodeId): Promise<void> {
    const moving = this.#manager;
    if (!moving?.manager) return;
    const entries = await moving.manager.stopAndExport();
    if (this.#manager !== moving) return;
    moving.process.killed = true;
    this.#manager = null;
    this.home = to;
    const store = new MemoryStore();
    await store.txn({ when: [], write: entries.map(({ key, value }) => ({ put: key, value })) });
    this.store = store;
    this.mirror.begin(entries);
    await this.startManager();
    this.count('meta store moved');
  }

  /** Work that goes on beside everything else; nothing it throws may be lost. */
  beside(work: Promise<unknown>): void {
    work.catch((error) => this.problem(`the simulator fails: ${messageOf(error)} ${(error as Error).stack}`));
  }
}
