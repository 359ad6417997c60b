import type { ClusterView, NodeId } from '../catalog/model.ts';
import { leaderless } from '../catalog/quorum.ts';
import { connectedNodes, isOut, replicaOn, servedPartitions } from '../catalog/view.ts';
import type { Clock } from '../core/clock.ts';
import type { FailoverInput } from '../operations/kinds/failover.ts';
import { hasEnded } from '../operations/machine.ts';
import { outageLock } from '../operations/operation.ts';
import type { Runner } from '../operations/runner.ts';
import { spareReplicas } from '../operations/steps/give-up.ts';
import type { ClusterLoad } from './cluster-load.ts';
import type { Inspector } from './ports.ts';

/**
 * A node says this long that its PostgreSQL is down, or is silent this long while its port refuses, before
 * others lead in its place.
 */
const DOWN_MS = 1_500;
const SILENT_MS = 900;
/** A cluster is started node by node: one that this manager has never heard has longer. */
const UNHEARD_MS = 20_000;
const REFUSALS = 4;
/** Between two failovers of one node. */
const AGAIN_MS = 2_000;

/** What is known of a node, in one word (`tide node status`). */
export type Condition = 'live' | 'starting' | 'fenced' | 'silent' | 'down' | 'out' | 'offline' | 'gone';

export interface OutageWatchPorts {
  clock: Clock;
  runner: Runner;
  load: ClusterLoad;
  inspector: Inspector;
  view(): ClusterView;
  /**
   * In a shared meta store. `gone`: the node lets nobody in; it has fenced itself, or does not run. `none`:
   * it needs no lease.
   */
  leaseOf(node: NodeId): Promise<'held' | 'gone' | 'none'>;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
}

interface Evidence {
  /** Refusals in a row, while it was silent. */
  refusals: number;
  /** Its lease has been seen while this manager had not heard it yet: it served under the manager before. */
  wasThere: boolean;
  /** Its lease has run out. */
  unleased: boolean;
  /** What has been said of its silence already. */
  told: 'nothing' | 'accepts' | 'silent' | 'off';
}

const NO_EVIDENCE: Evidence = { refusals: 0, wasThere: false, unleased: false, told: 'nothing' };

/**
 * Finds nodes that are down, and says which may serve. A failover needs proof: the node's own process says
 * that its PostgreSQL is gone, its port refuses, or its lease of a shared meta store has run out, before
 * which it has fenced itself. Silence behind a port that accepts is a frozen machine or a cut network, and
 * its server may still take writes.
 *
 * A PostgreSQL starts behind its fence and serves when this has said so. Permission and failover exclude each
 * other: none is given from the moment a failover is decided, and one is decided only on proof from after the
 * last permission.
 */
export class OutageWatch {
  readonly #ports: OutageWatchPorts;
  readonly #beganMs: number;
  readonly #evidence = new Map<NodeId, Evidence>();
  /** Since when this manager has seen a node that is out. */
  readonly #outSeenMs = new Map<NodeId, number>();
  readonly #failoverAtMs = new Map<NodeId, number>();
  /** Decided and not in the journal yet. */
  readonly #deciding = new Set<NodeId>();

  constructor(ports: OutageWatchPorts) {
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

  /**
   * Whose lease holds as this manager begins. By the time that it has heard everybody out, a short one may
   * have run out, and then nothing would tell the node that served until now from one that is yet to be
   * started.
   */
  async begin(): Promise<void> {
    const members = connectedNodes(this.#ports.view());
    const leases = await Promise.all(members.map(async ({ id }) => ({ id, lease: await this.#ports.leaseOf(id) })));
    for (const { id, lease } of leases)
      if (lease === 'held' && !this.#evidence.has(id)) this.#evidence.set(id, { ...NO_EVIDENCE, wasThere: true });
  }

  /** One look at every node. */
  async round(): Promise<void> {
    const members = connectedNodes(this.#ports.view()).filter((n) => n.state !== 'joining');
    await Promise.all(
      members.map(async ({ id, outage }) => {
        // What was found is used: when it has been taken back, it takes new proof to put it out again.
        if (outage) this.#evidence.delete(id);
        if (outage) return this.#attend(id, outage);
        this.#outSeenMs.delete(id);
        await this.#investigate(id);
      }),
    );
  }

  async #investigate(node: NodeId): Promise<void> {
    const { load, clock, view, event } = this.#ports;
    const servedAtMs = load.mayHaveServedAt(node) ?? this.#beganMs;
    const silentMs = clock.nowMs() - servedAtMs;
    // It is looked into long before plans take it for dead: proof, not silence, decides.
    if (load.reachable(node) && silentMs <= SILENT_MS) return void this.#evidence.delete(node);
    const evidence = this.#evidence.get(node) ?? { ...NO_EVIDENCE };
    this.#evidence.set(node, evidence);
    const isPlanned = this.#isPlanned(node);
    const isUnheard = load.beatAt(node) === null;
    if (isUnheard && !evidence.wasThere) evidence.wasThere = (await this.#ports.leaseOf(node)) === 'held';
    if (silentMs > (isUnheard && !evidence.wasThere ? UNHEARD_MS : SILENT_MS))
      await this.#examine(node, evidence, servedAtMs);
    if (!this.#isDown(node)) return;
    if (isPlanned && silentMs < view().settings['node.dead_after'] * 1_000) return;
    // One that was to come back, and did not, has been out since then.
    const since = isPlanned ? { sinceMs: servedAtMs } : {};
    if (view().settings.auto_failover) return this.#submit('failover', { node, by: 'manager', ...since });
    if (evidence.told === 'off') return;
    evidence.told = 'off';
    const text = `node ${node} is down; auto_failover is off: tide node offline ${node} lets others lead in its place`;
    await event({ kind: 'node-down', node, text });
  }

  /** What its port and its lease say of a node that is silent since `servedAtMs`. */
  async #examine(node: NodeId, evidence: Evidence, servedAtMs: number): Promise<void> {
    const { load, clock, inspector, event } = this.#ports;
    const silentMs = clock.nowMs() - servedAtMs;
    const [answer, lease] = await Promise.all([inspector.knock(node), this.#ports.leaseOf(node)]);
    // It has beaten meanwhile: what was found belongs to its silence before.
    if (this.#evidence.get(node) !== evidence || (load.mayHaveServedAt(node) ?? this.#beganMs) !== servedAtMs) return;
    evidence.refusals = answer === 'refused' ? evidence.refusals + 1 : 0;
    evidence.unleased = lease === 'gone';
    const isUnproven = answer !== 'refused' && lease !== 'gone' && !this.#isPlanned(node);
    if (isUnproven && silentMs > 2 * DOWN_MS && evidence.told !== answer) {
      evidence.told = answer;
      await event({ kind: 'node-unproven', node, text: unproven(node, answer) });
    }
  }

  /**
   * It was drained before it was stopped: there is no leader that another could replace, and it comes back
   * with what it has.
   */
  #isPlanned(node: NodeId): boolean {
    const { view, load } = this.#ports;
    const isDrained = view().nodes.get(node)?.draining === true;
    return isDrained && leaderless(view(), node, (n) => load.alive(n)).length === 0;
  }

  #isDown(node: NodeId): boolean {
    const { load, clock } = this.#ports;
    const downSinceMs = load.downSinceMs(node);
    const saysSo = downSinceMs !== null && clock.nowMs() - downSinceMs > DOWN_MS;
    const evidence = this.#evidence.get(node);
    return saysSo || evidence?.unleased === true || (evidence?.refusals ?? 0) >= REFUSALS;
  }

  /**
   * A node that is out: what it still leads finds a leader, it is taken back when it is there, and given up
   * after `node.dead_after`.
   */
  async #attend(node: NodeId, outage: { by: 'manager' | 'operator'; sinceMs: number }): Promise<void> {
    const { load, clock, view, runner } = this.#ports;
    const holder = runner.holderOf(outageLock(node));
    if (holder) {
      if (holder.kind === 'failover') this.#failoverAtMs.set(node, clock.nowMs());
      // It has gone again: whoever acts next must not wait behind it.
      if (holder.kind === 'recover-node' && !load.reachable(node) && !hasEnded(holder))
        await runner.cancel(holder.id).catch(() => {});
      return;
    }
    const isLed = leaderless(view(), node, (n) => load.alive(n)).length === 0;
    // One that has just found no node that could lead would find none again: then the node itself does, if it
    // is there.
    const hasTried = clock.nowMs() - (this.#failoverAtMs.get(node) ?? 0) < AGAIN_MS;
    if (!isLed && !hasTried) return this.#submit('failover', { node, by: outage.by });
    if (outage.by === 'manager' && load.reachable(node) && load.fenced(node))
      return this.#submit('recover-node', { node });
    if (!isLed) return;
    const isDead = this.#outMs(node, outage.sinceMs) > view().settings['node.dead_after'] * 1_000;
    if (isDead && spareReplicas(view(), node, runner.unended()).length > 0)
      await this.#submit('give-up-node', { node });
  }

  /**
   * A manager whose clock is behind that of the one before, who noted when it began, has waited long enough
   * after its own time.
   */
  #outMs(node: NodeId, sinceMs: number): number {
    const nowMs = this.#ports.clock.nowMs();
    const seenMs = this.#outSeenMs.get(node) ?? nowMs;
    this.#outSeenMs.set(node, seenMs);
    return nowMs - Math.min(seenMs, sinceMs);
  }

  async #submit(kind: string, input: { node: NodeId } & Partial<FailoverInput>): Promise<void> {
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
  return `node ${node} is silent, but ${found}: nobody leads in its place until it is known to be down, or its lease has run out where the meta store is in etcd (tide node offline ${node} says so)`;
}

/** Partitions with a replica on the node that no other has whole, and those it leads. */
export function onlyHere(view: ClusterView, node: NodeId, alive: (node: NodeId) => boolean) {
  return [...servedPartitions(view)].filter(
    ({ partition }) =>
      replicaOn(partition, node) &&
      !partition.replicas.some((r) => r.node !== node && r.state === 'ready' && alive(r.node)),
  );
}
