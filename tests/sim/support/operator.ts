import type { AdminRequest } from '../../../src/api/commands.ts';
import { adminCommand, type ManagerCommand } from '../../../src/api/commands.ts';
import type { NodeId, Partition } from '../../../src/catalog/model.ts';
import { allPartitions, connectedNodes, tableName } from '../../../src/catalog/view.ts';
import { TideError } from '../../../src/core/errors.ts';
import { hasEnded } from '../../../src/operations/machine.ts';
import { factsOf, type Nodes } from './nodes.ts';
import type { SimEvent } from './script.ts';
import type { SimWorld } from './world.ts';

const MACHINES_MAX = 7;

/** Answers that no sound cluster gives, however wrong the moment. */
const NEVER_ANSWERED = new Set(['INTERNAL', 'BAD_REQUEST']);

const SETTINGS = [
  ['move.concurrency', '1', '2', '6'],
  ['move.concurrency_per_node', '1', '2', '3'],
  ['move.max_pause', '20', '200', '400'],
  ['rebalance.auto', 'on', 'off'],
  ['auto_failover', 'on', 'on', 'off'],
  ['durability', 'quorum', 'quorum', 'async'],
  ['quorum_lost', 'wait', 'fail', 'fail', 'allow'],
  ['node.dead_after', '5', '15', '60'],
];

/** Somebody who administers the cluster, with whatever manager there is. */
export class Operator {
  readonly #world: SimWorld;
  readonly #nodes: Nodes;
  #joined = 0;

  constructor(world: SimWorld, nodes: Nodes) {
    this.#world = world;
    this.#nodes = nodes;
  }

  act(event: SimEvent): void {
    const request = this.#requestOf(event);
    if (event.what === 'add-node') this.#world.beside(this.#addNode());
    else if (event.what === 'move-manager') this.#world.beside(this.#moveManager(event.a));
    else if (request) this.#world.beside(this.ask(request));
  }

  /** The answer; null where there is no manager, or it refuses. */
  async ask(request: AdminRequest): Promise<unknown> {
    const { manager } = this.#world;
    if (!manager) return null;
    const told = JSON.stringify(request);
    try {
      const answer = await manager.run(adminCommand.parse(request) as ManagerCommand);
      this.#world.say(`operator: ${told}`);
      this.#world.count(`asked ${request.do}`);
      return answer;
    } catch (error) {
      if (!(error instanceof TideError)) throw error;
      if (NEVER_ANSWERED.has(error.code)) this.#world.problem(`${told} is answered with ${error.message}`);
      this.#world.count(`refused ${request.do}`);
      if (request.do === 'node-decommission' && error.code === 'META_HOME')
        await this.#world.moveManager(Number(error.details.successor));
      return error;
    }
  }

  #requestOf({ what, a, b, c }: SimEvent): AdminRequest | null {
    const { view } = this.#world.mirror;
    const ids = connectedNodes(view).map((n) => n.id);
    const node = pick(ids, a);
    const partitions = [...allPartitions(view)].filter((p) => p.table.state === 'ready');
    const found = pick(partitions, b);
    if (node === undefined) return null;
    switch (what) {
      case 'decommission':
        return { do: 'node-decommission', nodes: c < 0.2 ? [node, pick(ids, b) ?? node] : [node], checks: 'skip' };
      case 'recommission': {
        const leaving = connectedNodes(view).filter((n) => n.state === 'decommissioning');
        return leaving.length > 0 ? { do: 'node-recommission', nodes: leaving.map((n) => n.id) } : null;
      }
      case 'drain':
      case 'undrain':
        return { do: `node-${what}`, node };
      case 'recover':
        return { do: 'node-recover', node: pick(outages(view), a) ?? node };
      case 'offline':
        return this.#offline(a);
      case 'drop':
        return this.#drop(a);
      case 'cancel': {
        const running = [...this.#world.mirror.operations.values()].filter((r) => !hasEnded(r));
        const record = pick(running, a);
        return record ? { do: 'op-cancel', id: record.id } : null;
      }
      case 'scale-out':
        return { do: 'scale-out' };
      case 'set': {
        const [key = '', ...values] = pick(SETTINGS, a) ?? [];
        return { do: 'setting-set', key, value: pick(values, b) ?? '' };
      }
      case 'create-table':
        return view.tables.size < 3
          ? {
              do: 'table-create',
              sql: `create table t${view.tables.size}_${Math.floor(a * 1e6)} (id bigint)`,
              partitions: 2,
              replicas: 2,
            }
          : null;
      case 'drop-table':
        return view.tables.size > 1 && found ? { do: 'table-drop', table: tableName(found.table) } : null;
      case 'doctor':
        return { do: 'doctor', fix: a > 0.5 };
      default:
        return found ? moveOf(what, tableName(found.table), found.partition, ids, a, c) : null;
    }
  }

  /**
   * Only of a machine that is really gone: that nobody can write there any more is what the operator asserts.
   */
  #offline(share: number): AdminRequest | null {
    const gone = [...this.#world.machines.values()].filter((m) => !m.powered && !m.server.alive && !m.up);
    const machine = pick(gone, share);
    return machine && this.#world.mirror.view.nodes.has(machine.id) ? { do: 'node-offline', node: machine.id } : null;
  }

  #drop(share: number): AdminRequest | null {
    const node = pick(outages(this.#world.mirror.view), share);
    return node !== undefined && this.#world.machine(node).lost ? { do: 'node-drop', node, sure: true } : null;
  }

  async #addNode(): Promise<void> {
    const { manager } = this.#world;
    const present = [...this.#world.machines.values()].filter((m) => m.powered);
    if (!manager || present.length >= MACHINES_MAX) return;
    this.#joined += 1;
    const facts = { ...factsOf(0), address: `10.0.1.${this.#joined}:26257` };
    const answer = await manager.join(facts).catch((error: unknown) => {
      if (error instanceof TideError) return null;
      throw error;
    });
    if (!answer) return;
    const machine = this.#world.machine(answer.nodeId);
    machine.lost = false;
    machine.powered = true;
    machine.server.alive = true;
    machine.server.fenced = true;
    this.#world.say(`n${machine.id}: joins`);
    this.#nodes.start(machine);
  }

  async #moveManager(share: number): Promise<void> {
    const { manager } = this.#world;
    const to = pick(
      [...this.#world.machines.values()].filter((m) => m.up && !m.frozen && m.id !== this.#world.home),
      share,
    );
    if (!manager || !to) return;
    try {
      manager.successor(to.id);
    } catch (error) {
      if (error instanceof TideError) return;
      throw error;
    }
    this.#world.say(`the meta store moves to n${to.id}`);
    await this.#world.moveManager(to.id);
  }
}

const outages = (view: SimWorld['mirror']['view']): NodeId[] =>
  connectedNodes(view)
    .filter((n) => n.outage)
    .map((n) => n.id);

function pick<T>(items: readonly T[], share: number): T | undefined {
  return items[Math.floor(share * items.length)];
}

function moveOf(
  what: SimEvent['what'],
  table: string,
  { pid, replicas, leader }: Partition,
  ids: readonly NodeId[],
  a: number,
  c: number,
): AdminRequest | null {
  const holders = replicas.map((r) => r.node);
  const others = ids.filter((id) => !holders.includes(id));
  const from = pick(holders, a);
  const to = pick(others, c);
  switch (what) {
    case 'migrate':
      return from && to ? { do: 'partition-migrate', table, pids: [pid], from, to } : null;
    case 'change-leader': {
      const next = pick(
        holders.filter((n) => n !== leader),
        a,
      );
      return next ? { do: 'partition-change-leader', table, pid, to: next } : null;
    }
    case 'add-replica':
      return to ? { do: 'partition-add-replica', table, pids: [pid], node: to } : null;
    case 'del-replica':
      return from ? { do: 'partition-del-replica', table, pids: [pid], node: from } : null;
    default:
      return null;
  }
}
