import type { ClusterView, NodeId } from '../catalog/model.ts';
import { allPartitions, connectedNodes, isOut, replicaOn } from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import { leaderless, outageLock, spareReplicas } from '../operations/kinds/outage.ts';
import { hasEnded } from '../operations/machine.ts';
import type { Runner } from '../operations/runner.ts';
import type { ClusterLoad } from './cluster-load.ts';
import type { Inspector } from './ports.ts';

/** A node says this long that its PostgreSQL is down, or is silent this long while its port refuses, before others lead in its place. */
const DOWN_MS = 1_500;
const SILENT_MS = 900;
/** A cluster is started node by node: one that this manager has never heard has longer. */
const UNHEARD_MS = 20_000;
const REFUSALS = 4;
/** Between two failovers of one node. */
const AGAIN_MS = 2_000;

/** What is known of a node, in one word (`tide node status`). */
export type Condition = 'live' | 'starting' | 'fenced' | 'silent' | 'down' | 'out' | 'offline' | 'gone';

export interface GuardianPorts {
  clock: Clock;
  runner: Runner;
  load: ClusterLoad;
  inspector: Inspector;
  view(): ClusterView;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
}

interface Evidence {
  /** Refusals in a row, while it was silent. */
  refusals: number;
  /** What has been said of its silence already. */
  told: 'nothing' | 'accepts' | 'silent' | 'off';
}

/**
 * Finds nodes that are down, and says which may serve. A failover needs proof: the node's own process says that its PostgreSQL is gone, or
 * its port refuses. Silence behind a port that accepts is a frozen machine or a cut network, and its server may still take writes.
 *
 * A PostgreSQL starts behind its fence and serves when this has said so. Permission and failover exclude each other: none is given from the
 * moment a failover is decided, and one is decided only on proof from after the last permission.
 */
export class Guardian {
  readonly #ports: GuardianPorts;
  readonly #beganMs: number;
  readonly #evidence = new Map<NodeId, Evidence>();
  readonly #failoverAtMs = new Map<NodeId, number>();
  /** Decided and not in the journal yet. */
  readonly #deciding = new Set<NodeId>();

  constructor(ports: GuardianPorts) {
    this.#ports = ports;
    this.#beganMs = ports.clock.nowMs();
  }

  /** What a node is to do with its fence, asked at its beat. */
  fenceOf(node: NodeId): 'up' | 'down' | 'keep' {
    if (!this.#mayServe(node)) return 'up';
    return this.#ports.load.reachable(node) ? 'down' : 'keep';
  }

  #mayServe(node: NodeId): boolean {
    const { view, runner } = this.#ports;
    if (isOut(view(), node) || this.#deciding.has(node)) return false;
    const decided = runner.unended().some((r) => r.kind === 'failover' && r.input.node === node);
    if (!decided && this.#ports.load.reachable(node)) this.#evidence.delete(node);
    return !decided;
  }

  condition(node: NodeId): Condition {
    const { view, load } = this.#ports;
    const record = view().nodes.get(node);
    if (!record || record.state === 'decommissioned') return 'gone';
    if (load.alive(node)) return 'live';
    if (record.outage) return record.outage.by === 'operator' ? 'offline' : load.reachable(node) ? 'fenced' : 'out';
    if (load.reachable(node)) return 'starting';
    return this.#isDown(node) ? 'down' : 'silent';
  }

  /** One look at every node. */
  async round(): Promise<void> {
    const members = connectedNodes(this.#ports.view()).filter((n) => n.state !== 'joining');
    await Promise.all(
      members.map(async ({ id, outage }) => {
        // It answers: whatever was found is about a server before this one, also where this one is still fenced or out.
        if (this.#ports.load.reachable(id)) this.#evidence.delete(id);
        if (outage) return this.#attend(id, outage);
        if (this.#ports.load.reachable(id)) return;
        await this.#investigate(id);
      }),
    );
  }

  async #investigate(node: NodeId): Promise<void> {
    const { load, clock, inspector, view, event } = this.#ports;
    const evidence = this.#evidence.get(node) ?? { refusals: 0, told: 'nothing' };
    this.#evidence.set(node, evidence);
    const beatAtMs = load.beatAt(node) ?? this.#beganMs;
    const silentMs = clock.nowMs() - beatAtMs;
    if (silentMs > (load.beatAt(node) === null ? UNHEARD_MS : SILENT_MS)) {
      const answer = await inspector.knock(node);
      // It has beaten meanwhile: what was found belongs to its silence before.
      if (this.#evidence.get(node) !== evidence || (load.beatAt(node) ?? this.#beganMs) !== beatAtMs) return;
      evidence.refusals = answer === 'refused' ? evidence.refusals + 1 : 0;
      if (answer !== 'refused' && silentMs > 2 * DOWN_MS && evidence.told !== answer) {
        evidence.told = answer;
        await event({ kind: 'node-unproven', node, text: unproven(node, answer) });
      }
    }
    if (!this.#isDown(node)) return;
    if (view().settings.auto_failover) return this.#submit('failover', { node, by: 'manager' });
    if (evidence.told === 'off') return;
    evidence.told = 'off';
    const text = `node ${node} is down; auto_failover is off: tide node offline ${node} lets others lead in its place`;
    await event({ kind: 'node-down', node, text });
  }

  #isDown(node: NodeId): boolean {
    const { load, clock } = this.#ports;
    const downSinceMs = load.downSinceMs(node);
    const saysSo = downSinceMs !== null && clock.nowMs() - downSinceMs > DOWN_MS;
    return saysSo || (this.#evidence.get(node)?.refusals ?? 0) >= REFUSALS;
  }

  /** A node that is out: what it still leads finds a leader, it is taken back when it is there, and given up after `node.dead_after`. */
  async #attend(node: NodeId, outage: { by: 'manager' | 'operator'; sinceMs: number }): Promise<void> {
    const { load, clock, view, runner } = this.#ports;
    const holder = runner.holderOf(outageLock(node));
    if (holder) {
      // It has gone again: whoever acts next must not wait behind it.
      if (holder.kind === 'recover-node' && !load.reachable(node) && !hasEnded(holder))
        await runner.cancel(holder.id).catch(() => {});
      return;
    }
    if (leaderless(view(), node, (n) => load.alive(n)).length > 0) {
      // One that has just found nobody who could lead would find nobody again.
      if (clock.nowMs() - (this.#failoverAtMs.get(node) ?? 0) < AGAIN_MS) return;
      return this.#submit('failover', { node, by: outage.by });
    }
    if (outage.by === 'manager' && load.reachable(node) && load.fenced(node))
      return this.#submit('recover-node', { node });
    const isDead = clock.nowMs() - outage.sinceMs > view().settings['node.dead_after'] * 1_000;
    if (isDead && spareReplicas(view(), node).length > 0) await this.#submit('give-up-node', { node });
  }

  async #submit(kind: string, input: { node: NodeId; by?: 'manager' | 'operator' }): Promise<void> {
    const { runner } = this.#ports;
    if (this.#deciding.has(input.node) || runner.holderOf(outageLock(input.node))?.kind === kind) return;
    this.#deciding.add(input.node);
    if (kind === 'failover') this.#failoverAtMs.set(input.node, this.#ports.clock.nowMs());
    try {
      await runner.submit(kind, input);
    } finally {
      this.#deciding.delete(input.node);
    }
  }
}

function unproven(node: NodeId, answer: 'accepts' | 'silent'): string {
  const found =
    answer === 'accepts' ? 'its PostgreSQL accepts connections' : 'whether its PostgreSQL runs cannot be seen';
  return `node ${node} is silent, but ${found}: nobody leads in its place until it is known to be down (tide node offline ${node} says so)`;
}

/** Partitions with a replica on the node that nobody else has whole, and those it leads. */
export function onlyHere(view: ClusterView, node: NodeId, alive: (node: NodeId) => boolean) {
  return [...allPartitions(view)].filter(
    ({ partition }) =>
      replicaOn(partition, node) &&
      !partition.replicas.some((r) => r.node !== node && r.state === 'ready' && alive(r.node)),
  );
}
