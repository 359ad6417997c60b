import type { CatalogChange } from '../catalog/change.ts';
import type { ClusterView, NodeId, Quorum } from '../catalog/model.ts';
import { parsePartitionTable } from '../catalog/names.ts';
import {
  followersOf,
  lostOn,
  NO_QUORUM,
  type QuorumDemand,
  quorumsOf,
  sameQuorum,
  syncTransitions,
  wantedQuorum,
} from '../catalog/quorum.ts';
import { connectedNodes, ledPartitions, partitionKey, tableName } from '../catalog/view.ts';
import { must } from '../core/assert.ts';
import { messageOf } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import { Rounds } from '../core/rounds.ts';
import type { OperationRecord } from './operation.ts';
import type { DataPlane, PartitionRef } from './ports.ts';

/** A follower that is later than this holds up nobody: the earlier quorums stay known meanwhile. */
const COVER_MS = 1_000;
/** For as long a turn waits for followers that are back; the next one does so again. */
const LISTEN_MS = 500;

export interface QuorumPorts {
  plane: Pick<DataPlane, 'quorum' | 'markers'>;
  view(): ClusterView;
  alive(node: NodeId): boolean;
  /** Operations that have not ended: what they demand is in their `data.demands`. */
  running(): OperationRecord[];
  commit(changes: CatalogChange[]): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/**
 * Keeps what every node's commits wait for (docs/spec/quorum.md) as the catalog, liveness and running
 * operations want it. The only one that sets it, one change at a time per node, and what is wanted is worked
 * out inside that turn: an older wish cannot overwrite a newer one.
 *
 * With `quorum_lost` fail, a partition that has nobody left to wait for refuses writes, and is waited for no
 * more. It refuses before the quorum lets go of it, and until after the quorum protects it again: at no
 * moment is a write to it acknowledged by its leader alone.
 */
export class QuorumKeeper {
  readonly #ports: QuorumPorts;
  readonly #turns = new KeyedMutex();
  readonly #rounds: Rounds<NodeId>;
  readonly #demanded = new Set<readonly QuorumDemand[]>();
  /**
   * What refuses writes, as partitionKey, by node; for whoever shows it. The servers are asked anew in every
   * turn.
   */
  readonly #refused = new Map<NodeId, ReadonlySet<string>>();

  constructor(ports: QuorumPorts) {
    this.#ports = ports;
    this.#rounds = new Rounds((node, error) =>
      ports.log('warn', 'the quorum could not be set', { node, error: messageOf(error) }),
    );
  }

  /**
   * Comes back when the node's quorum is what was wanted at the time of the call, or later. Throws what its
   * server throws.
   */
  async settle(node: NodeId): Promise<void> {
    const { plane, view, alive } = this.#ports;
    await this.#turns.run(String(node), async () => {
      const refusals = await this.#refuseLost(node);
      const observed = await plane.quorum.read(node);
      const unready = await this.#unready(node, refusals);
      // Worked out after all that takes its time.
      const closed = [...this.#lostOn(node), ...unready].filter((key) => refusals.get(key) === 'on');
      const refused = new Set(closed);
      const wanted = wantedQuorum(view(), node, alive, this.#demands(), refused);
      this.#refused.set(node, refused);
      await this.#set(node, observed, wanted);
      for (const [key, state] of refusals) if (!refused.has(key)) await this.#takeWrites(node, key, state);
      const isOurs = observed !== null || wanted.count > 0;
      if (isOurs && quorumsOf(view(), node).length > 1 && (await this.#covers(node, wanted)))
        await this.#record(node, [wanted]);
    });
  }

  /** Partitions that the node leads, and that refuse writes for want of a live follower. */
  refusedOn(node: NodeId): ReadonlySet<string> {
    return this.#refused.get(node) ?? new Set();
  }

  #demands(): QuorumDemand[] {
    return [...demandsOf(this.#ports.running()), ...[...this.#demanded].flat()];
  }

  #lostOn(node: NodeId): string[] {
    const { view, alive } = this.#ports;
    return lostOn(view(), node, alive, this.#demands()).map((p) => partitionKey(p.tid, p.pid));
  }

  /**
   * Makes what has lost its followers refuse writes, as far as that is to be had now, and gives all that
   * refuses, by partitionKey.
   */
  async #refuseLost(node: NodeId): Promise<Map<string, 'on' | 'off'>> {
    const { plane, view, log } = this.#ports;
    const before = await this.#refusals(node);
    const missing = this.#lostOn(node).filter((key) => before.get(key) !== 'on');
    for (const key of missing) {
      const ref = refOf(key);
      const table = tableName(must(view().tables.get(ref.tid), `table ${ref.tid}`));
      try {
        await plane.quorum.refuseWrites(node, ref, table);
        log('warn', 'a partition without a live follower takes no writes', { node, ...ref, table });
      } catch (error) {
        // Until the next round it is waited for, as under `wait`.
        log('warn', 'a partition without a live follower still takes writes', {
          node,
          ...ref,
          error: messageOf(error),
        });
      }
    }
    return missing.length > 0 ? this.#refusals(node) : before;
  }

  /**
   * What refuses writes, and whose followers are alive again but do not listen yet, or have yet to catch up:
   * waited for now, they would hold up all that the node leads.
   */
  async #unready(node: NodeId, refusals: ReadonlyMap<string, 'on' | 'off'>): Promise<string[]> {
    const { plane, view, alive } = this.#ports;
    if (view().settings.quorum_lost !== 'fail' || view().settings.durability !== 'quorum') return [];
    const lost = this.#lostOn(node);
    const back = (ledPartitions(view()).get(node) ?? []).flatMap((partition) => {
      const key = keyOf(partition);
      const followers = followersOf(partition, node).filter(alive);
      return refusals.get(key) === 'on' && !lost.includes(key) && followers.length > 0 ? [{ key, followers }] : [];
    });
    if (back.length === 0) return [];
    const marker = await plane.markers.write(node);
    const arrived = new Set<NodeId>();
    const listen = async (n: NodeId) => {
      if (await plane.markers.arrives(n, node, marker, LISTEN_MS).catch(() => false)) arrived.add(n);
    };
    await Promise.all([...new Set(back.flatMap(({ followers }) => followers))].map(listen));
    return back.filter(({ followers }) => !followers.some((n) => arrived.has(n))).map(({ key }) => key);
  }

  async #refusals(node: NodeId): Promise<Map<string, 'on' | 'off'>> {
    const found = await this.#ports.plane.quorum.refusals(node);
    return new Map([...found].map(([name, state]) => [keyOf(parsePartitionTable(name)), state]));
  }

  /** What fails is tried again in the next round. */
  async #takeWrites(node: NodeId, key: string, was: 'on' | 'off'): Promise<void> {
    const { plane, log } = this.#ports;
    try {
      await plane.quorum.takeWrites(node, refOf(key));
      if (was === 'on') log('info', 'a partition takes writes again', { node, ...refOf(key) });
    } catch (error) {
      log('warn', 'a partition still refuses writes', { node, ...refOf(key), error: messageOf(error) });
    }
  }

  async #set(node: NodeId, observed: Quorum | null, wanted: Quorum): Promise<void> {
    const { plane, view } = this.#ports;
    // A list that somebody made for standbys of their own stays, as long as nothing has to be protected here.
    if (observed === null && wanted.count === 0) return;
    // Known before the first commit waits for it: a node that dies in the middle is judged by the old and the
    // new one.
    if (!quorumsOf(view(), node).some((q) => sameQuorum(q, wanted)))
      await this.#record(node, [...quorumsOf(view(), node), wanted]);
    for (const next of syncTransitions(observed ?? NO_QUORUM, wanted)) await plane.quorum.set(node, next);
  }

  async #record(node: NodeId, quorums: Quorum[]): Promise<void> {
    await this.#ports.commit([{ kind: 'node-changed', id: node, change: { quorums } }]);
  }

  /**
   * Whether all that was acknowledged under earlier quorums is where this one would have had it: true when
   * what was written after them has arrived at as many nodes as it asks for. If not now, a later round looks
   * again.
   */
  async #covers(node: NodeId, { count, nodes }: Quorum): Promise<boolean> {
    if (count === 0) return true;
    const { plane, alive } = this.#ports;
    const marker = await plane.markers.write(node);
    const arrivals = nodes
      .filter(alive)
      .map((n) => plane.markers.arrives(n, node, marker, COVER_MS).catch(() => false));
    return (await Promise.all(arrivals)).filter(Boolean).length >= count;
  }

  /**
   * Does `work` while a node's commits wait for what is demanded beside everything else: for who is about to
   * be no follower any more, and no operation. A crash forgets the demands, and with them nothing that `work`
   * had not done.
   */
  async demanding(node: NodeId, demands: readonly QuorumDemand[], work: () => Promise<void>): Promise<void> {
    this.#demanded.add(demands);
    try {
      await this.settle(node);
      await work();
    } finally {
      this.#demanded.delete(demands);
    }
  }

  /**
   * Settles every live node; one that is still at it from an earlier round is left alone, and holds up no
   * other.
   */
  round(): void {
    const { view, alive } = this.#ports;
    const live = connectedNodes(view()).filter((n) => n.state !== 'joining' && alive(n.id));
    this.#rounds.begin(
      live.map((n) => n.id),
      (node) => this.settle(node),
    );
  }

  /** Until the rounds that were begun have ended. */
  idle(): Promise<void> {
    return this.#rounds.idle();
  }
}

const keyOf = ({ tid, pid }: PartitionRef) => partitionKey(tid, pid);

function refOf(key: string): PartitionRef {
  const [tid, pid] = key.split('/').map(Number);
  return { tid: must(tid, 'tid'), pid: must(pid, 'pid') };
}

function demandsOf(running: readonly OperationRecord[]): QuorumDemand[] {
  return running.flatMap((r) => r.data.demands ?? []);
}
