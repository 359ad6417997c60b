import type { OperationRow } from '../../../src/api/results.ts';
import type { NodeId } from '../../../src/catalog/model.ts';
import { partitionTable } from '../../../src/catalog/names.ts';
import { allPartitions, connectedNodes, tableName } from '../../../src/catalog/view.ts';
import { TideError } from '../../../src/core/errors.ts';
import { hasEnded } from '../../../src/operations/machine.ts';
import { faultsOf } from '../../fakes/cleanliness.ts';
import type { Clients } from './clients.ts';
import type { Faults } from './faults.ts';
import type { Nodes } from './nodes.ts';
import type { Operator } from './operator.ts';
import type { SimWorld } from './world.ts';

/** From the end of the last fault to a cluster that is whole and has nothing to do, milliseconds. */
const REST_MS = 600_000;
const LOOK_MS = 1_000;
/** Looks in a row at which nothing was left to do: a plan has to be wanted twice before it is made. */
const CALM_LOOKS = 8;
/** An operation that has nowhere to put a replica is given up after this time, as an operator would. */
const NO_TARGET_MS = 60_000;

/** After the last fault everything has to end, and nothing may be left over. */
export class Rest {
  readonly #world: SimWorld;
  readonly #clients: Clients;
  readonly #operator: Operator;
  readonly #nodes: Nodes;
  readonly #asked = new Set<number>();

  constructor(world: SimWorld, clients: Clients, operator: Operator, nodes: Nodes) {
    this.#world = world;
    this.#clients = clients;
    this.#operator = operator;
    this.#nodes = nodes;
  }

  async reach(faults: Faults): Promise<void> {
    const { world } = { world: this.#world };
    world.say('all faults end');
    faults.end();
    this.#clients.pause();
    const beganMs = world.clock.nowMs();
    this.#startAll();
    let calm = 0;
    let left: string[] = [];
    while (calm < CALM_LOOKS) {
      if (world.clock.nowMs() - beganMs > REST_MS) {
        world.problem(
          `there is no rest ${REST_MS / 60_000} minutes after the last fault:\n  ${left.slice(0, 12).join('\n  ')}`,
        );
        return;
      }
      // What is written now has arrived by the next look.
      this.#clients.write();
      await world.clock.sleep(LOOK_MS);
      left = await this.#left(beganMs);
      if (left.length > 0) await this.#mend();
      calm = left.length === 0 ? calm + 1 : 0;
    }
    world.count('seconds to rest', Math.round((world.clock.nowMs() - beganMs) / 1_000));
    this.#clients.look();
  }

  #startAll(): void {
    for (const machine of this.#world.machines.values()) {
      if (machine.lost || machine.up || this.#state(machine.id) === 'decommissioned') continue;
      machine.powered = true;
      this.#nodes.start(machine);
    }
    const { manager } = this.#world;
    if (!manager && !this.#world.managerProcess) this.#world.beside(this.#world.startManager());
  }

  #state(node: NodeId): string | undefined {
    return this.#world.mirror.view.nodes.get(node)?.state;
  }

  /** What is not as it should be; empty: nothing. */
  async #left(beganMs: number): Promise<string[]> {
    const { mirror, cluster, manager, machines } = this.#world;
    if (!manager) return ['no manager runs'];
    const { view } = mirror;
    const running = (await manager.run({ do: 'op-ls', all: false })) as OperationRow[];
    const operations = running
      .filter((row) => !hasEnded(row))
      .map((r) => `operation ${r.id} ${r.kind} ${r.subject} is ${r.status} at ${r.step}: ${r.waitsFor?.text}`);
    const away = connectedNodes(view)
      .filter((n) => !machines.get(n.id)?.upToDate || n.outage)
      .map((n) => `node ${n.id} is ${n.outage ? 'out' : 'not up to date'}`);
    for (const { partition } of allPartitions(view)) {
      const name = partitionTable(partition.tid, partition.pid);
      cluster.acknowledged.set(name, cluster.at(partition.leader).replicas.get(name)?.rows.size ?? 0);
    }
    if (operations.length + away.length > 0 || this.#world.clock.nowMs() === beganMs) return [...operations, ...away];
    return [...faultsOf({ view, cluster }), ...this.#short()];
  }

  /** Partitions that have fewer replicas than they could have. */
  #short(): string[] {
    const { view } = this.#world.mirror;
    const able = connectedNodes(view).filter((n) => n.state === 'active' && !n.draining).length;
    return [...allPartitions(view)].flatMap(({ table, partition }) => {
      const ready = partition.replicas.filter((r) => r.state === 'ready').length;
      const wanted = Math.min(table.replicaCount, able);
      return ready < wanted ? [`${partitionTable(table.tid, partition.pid)} has ${ready} of ${wanted} replicas`] : [];
    });
  }

  /**
   * What an operator does about what cannot mend itself: nodes that are lost or were set offline, plans
   * without a target.
   */
  async #mend(): Promise<void> {
    const { mirror, machines } = this.#world;
    for (const { id, outage, state } of connectedNodes(mirror.view)) {
      const lost = machines.get(id)?.lost === true;
      if (lost && state === 'joining') await this.#cancelJoin(id);
      else if (lost && !outage) await this.#operator.ask({ do: 'node-offline', node: id });
      else if (lost) await this.#drop(id);
      else if (outage?.by === 'operator') await this.#operator.ask({ do: 'node-recover', node: id });
    }
    if (!mirror.view.settings.auto_failover)
      await this.#operator.ask({ do: 'setting-set', key: 'auto_failover', value: 'on' });
    await this.#giveUp();
  }

  async #cancelJoin(node: NodeId): Promise<void> {
    const join = [...this.#world.mirror.operations.values()].find(
      (r) => r.kind === 'join-node' && r.input.node === node,
    );
    if (join && !hasEnded(join) && !join.cancelRequested) await this.#operator.ask({ do: 'op-cancel', id: join.id });
  }

  async #drop(node: NodeId): Promise<void> {
    const refusal = await this.#operator.ask({ do: 'node-drop', node, sure: true });
    if (!(refusal instanceof TideError)) return;
    if (refusal.code === 'WRITES_AT_RISK') await this.#recoverPartitions(node);
    if (refusal.code !== 'LAST_COPY') return;
    const accept = String(refusal.details.accept).split(',');
    // What he names is given up, and nothing else, whatever the command makes of it.
    for (const { table, partition } of allPartitions(this.#world.mirror.view)) {
      if (accept.includes(`${tableName(table)}/${partition.pid}`))
        this.#clients.forgive(partitionTable(table.tid, partition.pid));
    }
    await this.#operator.ask({ do: 'node-drop', node, acceptDataLoss: accept, sure: true });
  }

  /** Somebody leads what the lost node led, with what it has. */
  async #recoverPartitions(node: NodeId): Promise<void> {
    const { mirror, machines } = this.#world;
    for (const { table, partition } of allPartitions(mirror.view)) {
      const { tid, pid, leader, replicas } = partition;
      const to = replicas.find((r) => r.node !== node && r.state === 'ready' && machines.get(r.node)?.server.answers);
      if (leader !== node || !to) continue;
      const request = { do: 'partition-recover', table: tableName(table), pid, node: to.node } as const;
      const refusal = await this.#operator.ask(request);
      if (!(refusal instanceof TideError) || refusal.code !== 'WRITES_AT_RISK') continue;
      this.#clients.forgive(partitionTable(tid, pid));
      await this.#operator.ask({ ...request, acceptDataLoss: true });
    }
  }

  async #giveUp(): Promise<void> {
    const { manager, clock } = this.#world;
    const rows = ((await manager?.run({ do: 'op-ls', all: false })) ?? []) as OperationRow[];
    for (const { id, waitsFor, createdAt } of rows) {
      const old = clock.nowMs() - Date.parse(createdAt) > NO_TARGET_MS;
      if (!old || waitsFor?.kind !== 'no-target' || this.#asked.has(id)) continue;
      this.#asked.add(id);
      this.#world.count('operations given up for want of a target');
      await this.#operator.ask({ do: 'op-cancel', id });
    }
  }
}
