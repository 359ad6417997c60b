import { must } from '../../../src/core/assert.ts';
import type { Blocker } from '../../../src/operations/ports.ts';
import type { Machine } from './machine.ts';
import type { Nodes } from './nodes.ts';
import type { SimEvent } from './script.ts';
import type { SimWorld } from './world.ts';

/** A fault lasts from a moment to this long. */
const LASTS_MS = 30_000;
/** A fault may wait for this many changes of servers, to strike in the midst of them. */
const CHANGES_MAX = 25;

/** What breaks, and is mended after a while or when all faults end. */
export class Faults {
  readonly #world: SimWorld;
  readonly #nodes: Nodes;
  readonly #mending = new Set<() => void>();

  constructor(world: SimWorld, nodes: Nodes) {
    this.#world = world;
    this.#nodes = nodes;
  }

  /** Everything that is still broken is mended; what is lost stays lost. */
  end(): void {
    this.#world.armed.length = 0;
    for (const mend of [...this.#mending]) mend();
  }

  #forAWhile(ms: number, mend: () => void): void {
    const once = () => {
      if (this.#mending.delete(once)) mend();
    };
    this.#mending.add(once);
    this.#world.beside(this.#world.clock.sleep(ms).then(once));
  }

  /** Squared: most faults are short. */
  #lasts(share: number): number {
    return Math.round(200 + share ** 2 * LASTS_MS);
  }

  /** Machines that are there and not lost. */
  #present(): Machine[] {
    return [...this.#world.machines.values()].filter((m) => m.powered && !m.lost);
  }

  /** One of those; where none is there, one to which nothing more can happen. */
  #pick(share: number, present = this.#present()): Machine {
    const machines = present.length > 0 ? present : [...this.#world.machines.values()];
    return must(machines[Math.floor(share * machines.length)], 'a machine');
  }

  /** False for an event that is none of these. */
  strike({ what, a, b, c }: SimEvent): boolean {
    const ms = this.#lasts(c);
    switch (what) {
      case 'crash-postgres':
        this.#atAChange(b, this.#pick(a), (m) => this.#crashPostgres(m));
        return true;
      case 'crash-process':
        this.#atAChange(b, this.#pick(a), (m) => this.#crashProcess(m, ms));
        return true;
      case 'crash-machine':
        this.#atAChange(b, this.#pick(a), (m) => this.#crashMachine(m, c > 0.5, ms));
        return true;
      case 'lose-machine':
        this.#lose(this.#pick(a), b > 0.5);
        return true;
      case 'kill-manager':
        this.#atAChange(b, this.#world.machine(this.#world.home), (_, home) => this.#crashProcess(home, ms / 4));
        return true;
      case 'freeze':
        this.#freeze(this.#pick(a), b < 0.5 ? 'machine' : b < 0.75 ? 'process' : 'postgres', ms);
        return true;
      case 'answer-lost':
        this.#arm(a, 'answer', () => this.#world.say('the answer to a change is lost'));
        return true;
      default:
        return this.#impede({ what, a, b, c, atMs: 0 }, ms);
    }
  }

  #impede({ what, a, b }: SimEvent, ms: number): boolean {
    switch (what) {
      case 'cut':
        this.#cut(this.#pick(a), [this.#pick(b)], b, ms);
        return true;
      case 'isolate':
        this.#cut(this.#pick(a), this.#present(), b, ms);
        return true;
      case 'slow': {
        const machine = this.#pick(a);
        machine.slowMs = Math.round(20 + b * 400);
        this.#world.say(`n${machine.id}: every statement takes ${machine.slowMs} ms, for ${ms} ms`);
        this.#forAWhile(ms, () => {
          machine.slowMs = 0;
        });
        return true;
      }
      case 'lag': {
        const machine = this.#pick(a);
        machine.server.lagging = true;
        this.#world.say(`n${machine.id}: applies nothing for ${ms} ms`);
        this.#forAWhile(ms, () => {
          machine.server.lagging = false;
        });
        return true;
      }
      case 'stall':
        this.#stall(this.#pick(a), b);
        return true;
      case 'disk-fills': {
        const machine = this.#pick(a);
        machine.diskFreeShare = 0.02;
        this.#world.say(`n${machine.id}: its disk is full for ${ms} ms`);
        this.#forAWhile(ms, () => {
          machine.diskFreeShare = 0.9;
        });
        return true;
      }
      case 'transaction':
        this.#transaction(this.#pick(a), b, ms);
        return true;
      default:
        return false;
    }
  }

  /** Its clock has been set back, and streams that it receives have ended: nobody else mends that. */
  #stall(machine: Machine, share: number): void {
    const streams = [...machine.server.subscriptions].filter((_, i) => (share * (i + 3) * 7) % 1 < 0.6);
    if (!machine.server.alive || streams.length === 0) return;
    this.#world.say(`n${machine.id}: does not go on to receive from ${streams.map(([from]) => `n${from}`).join(', ')}`);
    this.#world.count('streams stalled', streams.length);
    for (const [, subscription] of streams) subscription.stalled = true;
  }

  /**
   * Now, or before or after one of the next changes of a server: of the one picked, or the one that is being
   * changed.
   */
  #atAChange(share: number, machine: Machine, strike: (changed: Machine, picked: Machine) => void): void {
    if (share < 0.3) strike(machine, machine);
    else
      this.#arm(share, share < 0.65 ? 'before' : 'after', (node) => {
        const changed = this.#world.machine(node);
        strike(share < 0.8 ? changed : machine, machine);
      });
  }

  #arm(share: number, when: 'before' | 'after' | 'answer', strike: (node: number) => void): void {
    this.#world.armed.push({ left: 1 + Math.floor(((share * 97) % 1) * CHANGES_MAX), when, strike });
  }

  #crashPostgres(machine: Machine): void {
    if (!machine.server.alive) return;
    this.#world.say(`n${machine.id}: PostgreSQL crashes`);
    this.#nodes.crashPostgres(machine);
  }

  #crashProcess(machine: Machine, ms: number): void {
    if (!machine.up) return;
    this.#world.say(`n${machine.id}: the node process crashes, for ${Math.round(ms)} ms`);
    this.#world.count('processes crashed');
    this.#nodes.crashProcess(machine);
    this.#forAWhile(ms, () => this.#bringBack(machine));
  }

  #crashMachine(machine: Machine, silent: boolean, ms: number): void {
    if (!machine.up || !machine.powered) return;
    this.#world.say(`n${machine.id}: the machine ${silent ? 'vanishes' : 'crashes'}, for ${ms} ms`);
    this.#world.count('machines crashed');
    this.#nodes.crashProcess(machine);
    this.#nodes.crashPostgres(machine);
    machine.powered = !silent;
    this.#forAWhile(ms, () => this.#bringBack(machine));
  }

  #bringBack(machine: Machine): void {
    if (machine.lost || machine.up || this.#hasLeft(machine)) return;
    machine.powered = true;
    this.#world.say(`n${machine.id}: is back`);
    this.#nodes.start(machine);
  }

  #hasLeft(machine: Machine): boolean {
    return this.#world.mirror.view.nodes.get(machine.id)?.state === 'decommissioned';
  }

  /** For good, with its disk; the one with the meta store must not, and one at a time is enough. */
  #lose(machine: Machine, silent: boolean): void {
    const others = [...this.#world.machines.values()].filter((m) => m.lost && !this.#hasLeft(m));
    if (machine.id === this.#world.home || others.length > 0 || this.#present().length < 4) return;
    this.#world.say(`n${machine.id}: the machine is lost for ever`);
    this.#world.count('machines lost');
    this.#nodes.crashProcess(machine);
    this.#nodes.crashPostgres(machine);
    machine.powered = !silent;
    machine.lost = true;
  }

  #freeze(machine: Machine, what: 'machine' | 'process' | 'postgres', ms: number): void {
    if (machine.frozen || machine.server.frozen || !machine.up) return;
    this.#world.say(`n${machine.id}: the ${what} is frozen, for ${ms} ms`);
    this.#world.count('freezes');
    this.#nodes.freeze(machine, what);
    this.#forAWhile(ms, () => this.#nodes.thaw(machine));
  }

  /** Both ways, or one of them only. */
  #cut(machine: Machine, from: readonly Machine[], share: number, ms: number): void {
    const others = from.filter((m) => m !== machine);
    const way = (share * 31) % 1;
    const pairs = others.flatMap((other) => [
      ...(way < 0.7 ? [[machine.id, other.id] as const] : []),
      ...(way > 0.3 ? [[other.id, machine.id] as const] : []),
    ]);
    if (pairs.length === 0) return;
    this.#world.say(`nothing gets through ${pairs.map(([x, y]) => `n${x} → n${y}`).join(', ')}, for ${ms} ms`);
    this.#world.count('cuts');
    for (const [x, y] of pairs) this.#world.network.cut(x, y);
    this.#forAWhile(ms, () => {
      for (const [x, y] of pairs) this.#world.network.mend(x, y);
    });
  }

  /** Somebody's transaction that has used a partition, has written, and is left open. */
  #transaction(machine: Machine, share: number, ms: number): void {
    const { server } = machine;
    const hinges = [...server.hinges.keys()];
    const name = hinges[Math.floor(share * hinges.length)];
    if (!server.answers || name === undefined) return;
    const blocker: Blocker = {
      processId: 99,
      user: 'app',
      query: 'update',
      state: 'idle',
      application: 'app',
      ageMs: 60_000,
    };
    const snapshot = { ...blocker, sinceMs: this.#world.clock.nowMs() };
    this.#world.say(`n${machine.id}: a transaction that has used ${name} stays open for ${ms} ms`);
    this.#world.count('transactions left open');
    server.holders.set(name, [blocker]);
    server.snapshots.push(snapshot);
    server.writer = blocker;
    this.#forAWhile(ms, () => {
      if (server.holders.get(name)?.[0] === blocker) server.holders.delete(name);
      if (server.snapshots.includes(snapshot)) server.snapshots.splice(server.snapshots.indexOf(snapshot), 1);
      if (server.writer === blocker) server.writer = null;
    });
  }
}
