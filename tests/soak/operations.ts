import type { AdminRequest } from '../../src/api/commands.ts';
import type { OperationRow } from '../../src/api/results.ts';
import { must } from '../../src/core/assert.ts';
import { messageOf, TideError } from '../../src/core/errors.ts';
import type { Random } from '../fakes/random.ts';
import type { Traffic } from './traffic.ts';
import type { World } from './world.ts';

const PAUSE_MS = [200, 1_500] as const;
const NODES_MAX = 5;
const NODES_MIN = 4;

/** Answers that a sound cluster may give to a command that came at the wrong moment. */
const REFUSALS_ARE_BUGS = new Set(['INTERNAL', 'BAD_REQUEST', 'NOT_PGTIDE', 'USAGE']);

/** Answers behind which a command may be at work. */
const MAY_HAVE_BEGUN = new Set(['UNREACHABLE', 'NO_MANAGER', 'NODE_ALREADY_DECOMMISSIONING']);

const WEIGHTS = {
  'change-leader': 6,
  migrate: 6,
  'add-replica': 3,
  'del-replica': 3,
  drain: 1,
  undrain: 2,
  'scale-out': 1,
  'cancel-any': 2,
  'set-pause': 1,
  'set-concurrency': 1,
  'set-auto': 1,
  'scratch-table': 1,
  'meta-move': 0.7,
  doctor: 0.5,
  'doctor-fix': 0.5,
};

type MoveCommand = Extract<
  AdminRequest,
  { do: 'partition-migrate' | 'partition-add-replica' | 'partition-del-replica' | 'partition-change-leader' }
>;

/**
 * Somebody who never stops administering: moves, leaders, replicas, drains, settings, tables, and cancels of
 * all of it.
 */
export class Operator {
  readonly #world: World;
  readonly #random: Random;
  readonly #name: string;

  constructor(world: World, name: string) {
    this.#world = world;
    this.#random = world.random.fork();
    this.#name = name;
  }

  async run(): Promise<void> {
    while (!this.#world.stopping) {
      const what = this.#random.weighted(WEIGHTS);
      const operations = await this.#ask(what).catch((error: unknown) => this.#refused(what, error));
      for (const id of operations) await this.#follow(what, id);
      await this.#world.pause(this.#random.between(...PAUSE_MS));
    }
  }

  #refused(what: string, error: unknown): number[] {
    if (!(error instanceof TideError)) throw error;
    this.#world.trace(`${this.#name}: ${what} refused: ${error.code} ${error.message}`);
    this.#world.count(`refused ${error.code}`);
    if (REFUSALS_ARE_BUGS.has(error.code))
      this.#world.find(`${what} was answered with ${error.code}: ${error.message}`);
    return [];
  }

  async #ask(what: keyof typeof WEIGHTS): Promise<number[]> {
    const world = this.#world;
    const node = this.#random.pick([...world.members]);
    switch (what) {
      case 'drain':
      case 'undrain': {
        const started = await world.admin({ do: what === 'drain' ? 'node-drain' : 'node-undrain', node });
        return started.operation === null ? [] : [started.operation];
      }
      case 'scale-out': {
        const started = await world.admin({ do: 'scale-out' });
        return started.operation === null ? [] : [started.operation];
      }
      case 'set-pause':
        return this.#set('move.max_pause', String(this.#random.pick([60, 100, 200, 400])));
      case 'set-concurrency':
        return this.#set('move.concurrency', String(this.#random.int(1, 6)));
      case 'set-auto':
        return this.#set('rebalance.auto', this.#random.pick(['on', 'off']));
      case 'meta-move':
        await world.admin({ do: 'meta-move', node }, 60_000);
        world.trace(`${this.#name}: meta store moved to node ${node}`);
        world.count('operation meta-move done');
        return [];
      case 'doctor':
      case 'doctor-fix':
        await world.admin({ do: 'doctor', fix: what === 'doctor-fix' }, 60_000);
        return [];
      case 'cancel-any':
        return this.#cancelAny();
      case 'scratch-table':
        return this.#scratchTable();
      default:
        return this.#movePartition(what);
    }
  }

  async #set(key: string, value: string): Promise<number[]> {
    await this.#world.admin({ do: 'setting-set', key, value });
    this.#world.trace(`${this.#name}: ${key} = ${value}`);
    return [];
  }

  async #cancelAny(): Promise<number[]> {
    const running = await this.#world.unended();
    if (running.length > 0) await this.#cancel(this.#random.pick(running).id);
    return [];
  }

  async #movePartition(what: 'change-leader' | 'migrate' | 'add-replica' | 'del-replica'): Promise<number[]> {
    const rows = await this.#world.admin({ do: 'partition-ls' });
    if (rows.length === 0) return [];
    const { table, pid } = this.#random.pick(rows);
    const holders = rows.filter((r) => r.table === table && r.pid === pid);
    const nodes = [...this.#world.members];
    const free = nodes.filter((n) => !holders.some((h) => h.node === n));
    const node = this.#random.pick(free.length > 0 ? free : nodes);
    const from = this.#random.pick(holders).node;
    const pids = [pid];
    const send = async (command: MoveCommand) => (await this.#world.admin(command)).operations;
    if (what === 'migrate' && from === node) return [];
    if (what === 'migrate') return send({ do: 'partition-migrate', table, pids, from, to: node });
    if (what === 'add-replica') return send({ do: 'partition-add-replica', table, pids, node });
    if (what === 'del-replica') return send({ do: 'partition-del-replica', table, pids, node: from });
    return send({ do: 'partition-change-leader', table, pid, to: this.#random.chance(0.5) ? 'auto' : from });
  }

  /** A table that comes and goes while everything else moves; it has to be right for as long as it stands. */
  async #scratchTable(): Promise<number[]> {
    const table = `scratch_${this.#name}_${Math.floor(this.#random.next() * 1e6)}`;
    const created = await this.#world.admin({
      do: 'table-create',
      sql: `CREATE TABLE ${table} (id int PRIMARY KEY, at timestamptz DEFAULT now())`,
      partitions: this.#random.int(1, 4),
      replicas: this.#random.int(1, 3),
    });
    if ((await this.#follow('table-create', created.operation)) !== 'done') return [];
    await this.#world.pause(this.#random.between(0, 4_000));
    return await this.#drop(table);
  }

  async #drop(table: string): Promise<number[]> {
    for (;;) {
      try {
        return [(await this.#world.admin({ do: 'table-drop', table })).operation];
      } catch (error) {
        this.#refused('table-drop', error);
        if (this.#world.stopping || (error instanceof TideError && error.code === 'TABLE_UNKNOWN')) return [];
        await this.#world.pause(1_000);
      }
    }
  }

  /** Watches an operation to its end, or takes it back in the middle. */
  async #follow(what: string, id: number): Promise<string | null> {
    const cancelAfterMs = this.#random.chance(0.3) ? this.#random.between(0, 2_500) : null;
    const beganMs = performance.now();
    this.#world.trace(`${this.#name}: ${what} is operation ${id}`);
    let asked = false;
    while (!this.#world.stopping) {
      const seen = await this.#world.admin({ do: 'op-show', id }).catch(() => null);
      if (seen && seen.endedAt !== null) return ended(this.#world, what, seen);
      if (cancelAfterMs !== null && !asked && performance.now() - beganMs > cancelAfterMs) {
        asked = true;
        await this.#cancel(id);
      }
      await this.#world.pause(150);
    }
    return null;
  }

  async #cancel(id: number): Promise<void> {
    await this.#world
      .admin({ do: 'op-cancel', id })
      .then(() => this.#world.trace(`${this.#name}: cancel ${id}`))
      .catch((error: unknown) => this.#refused(`cancel ${id}`, error));
  }
}

/**
 * An operation that failed by itself says why in a code of the catalogue; INTERNAL is nobody's fault but
 * ours.
 */
function ended(world: World, what: string, operation: OperationRow): string {
  const { id, status, error } = operation;
  world.count(`operation ${what} ${status}`);
  world.trace(
    `operation ${id} ${what} ${operation.subject} ${status}${error ? `: ${error.code} ${error.message}` : ''}`,
  );
  return status;
}

/** Nodes come and go: decommissions, some taken back in the middle, and new nodes for those that left. */
export class Membership {
  readonly #world: World;
  readonly #random: Random;
  readonly #traffics: readonly Traffic[];

  constructor(world: World, traffics: readonly Traffic[]) {
    this.#world = world;
    this.#random = world.random.fork();
    this.#traffics = traffics;
  }

  async run(): Promise<void> {
    while (!this.#world.stopping) {
      await this.#world.pause(this.#random.between(3_000, 12_000));
      if (this.#world.stopping) return;
      if (this.#world.members.size < NODES_MAX && this.#random.chance(0.6)) await this.#add();
      else if (this.#world.members.size >= NODES_MIN) await this.#takeAway(this.#random.pick([...this.#world.members]));
    }
  }

  async #add(): Promise<void> {
    const beganMs = performance.now();
    try {
      const { id } = await this.#world.cluster.addNode();
      this.#world.members.add(id);
      this.#world.trace(`node ${id} joined`);
      this.#world.count('operation join done');
    } catch (error) {
      this.#world.trace(`a node could not join: ${messageOf(error)}`);
      if (!this.#world.disturbedBetween(beganMs, performance.now())) {
        this.#world.find(`a node could not join: ${messageOf(error)}`);
      }
      await this.#cancelJoins();
    }
  }

  /** What an operator does about a node that asked to join and died on the way. */
  async #cancelJoins(): Promise<void> {
    const operations = await this.#world.unended().catch(() => []);
    for (const { id } of operations.filter((o) => o.kind === 'join-node'))
      await this.#world.admin({ do: 'op-cancel', id }).catch(() => {});
  }

  async #takeAway(node: number): Promise<void> {
    const world = this.#world;
    try {
      const operation = await this.#decommission(node);
      world.trace(`decommission of node ${node} is operation ${operation}`);
      if ((await this.#untilGone(node, operation)) !== 'done') return;
      world.members.delete(node);
      await Promise.all(this.#traffics.map((t) => t.leave(node)));
      if (world.cluster.node(node).isRunning) await world.cluster.node(node).quit();
      else world.cluster.node(node).killPostgres();
      world.trace(`node ${node} has left`);
    } catch (error) {
      if (!(error instanceof TideError)) throw error;
      world.trace(`decommission of node ${node}: ${error.code} ${error.message}`);
      world.count(`refused ${error.code}`);
      if (error.code === 'META_HOME') await this.#moveMeta(node);
      else if (REFUSALS_ARE_BUGS.has(error.code)) world.find(`decommission of node ${node}: ${error.message}`);
    }
  }

  /** The operation; also where a fault took the answer that named it. */
  async #decommission(node: number): Promise<number> {
    const command: AdminRequest = { do: 'node-decommission', nodes: [node], checks: 'skip' };
    try {
      return must((await this.#world.admin(command)).operation, 'operation');
    } catch (error) {
      const begun = error instanceof TideError && MAY_HAVE_BEGUN.has(error.code) ? await this.#begun(node) : null;
      if (begun === null) throw error;
      return begun;
    }
  }

  async #begun(node: number): Promise<number | null> {
    while (!this.#world.stopping) {
      const operations = await this.#world.unended().catch(() => null);
      if (operations)
        return operations.find((o) => o.kind === 'decommission' && o.subject === `node ${node}`)?.id ?? null;
      await this.#world.pause(200);
    }
    return null;
  }

  async #moveMeta(from: number): Promise<void> {
    const to = this.#random.pick([...this.#world.members].filter((n) => n !== from));
    await this.#world
      .admin({ do: 'meta-move', node: to }, 60_000)
      .then(() => this.#world.trace(`meta store moved to node ${to}`))
      .catch((error: unknown) => this.#world.trace(`meta-move to node ${to}: ${messageOf(error)}`));
  }

  async #untilGone(node: number, operation: number): Promise<string | null> {
    const giveUpMs = this.#random.chance(0.4) ? this.#random.between(0, 8_000) : null;
    const beganMs = performance.now();
    let asked = false;
    while (!this.#world.stopping) {
      const seen = await this.#world.admin({ do: 'op-show', id: operation }).catch(() => null);
      if (seen && seen.endedAt !== null) return ended(this.#world, asked ? 'recommission' : 'decommission', seen);
      if (giveUpMs !== null && !asked && performance.now() - beganMs > giveUpMs) {
        asked = true;
        await this.#world
          .admin({ do: 'node-recommission', nodes: [node] })
          .then(() => this.#world.trace(`recommission of node ${node}`))
          .catch((error: unknown) => this.#world.trace(`recommission of node ${node}: ${messageOf(error)}`));
      }
      await this.#world.pause(200);
    }
    return null;
  }
}
