import type { ClusterView, NodeId, Partition, Quorum } from './model.ts';
import { ledPartitions, partitionKey, servedBy } from './view.ts';

export const NO_QUORUM: Quorum = { count: 0, nodes: [] };

/** A partition that a running operation wants protected on `node`, beside what the catalog says of it. */
export interface QuorumDemand {
  /** Leads the partition, or is about to. */
  readonly node: NodeId;
  readonly tid: number;
  /** null: every partition of the table that the node leads. */
  readonly pid: number | null;
  /** Followers that are about to be none: the others have to do. */
  readonly without?: readonly NodeId[];
  /** Replicas that are about to count as followers: one of them will do. */
  readonly with?: readonly NodeId[];
}

/**
 * Whether every commit that this quorum lets through has reached at least one of `followers`: fewer than
 * `count` nodes of the list are not among them. Whoever promotes a follower has seen the newest commit if
 * this holds for the followers that it has compared.
 */
export function protects(quorum: Quorum, followers: readonly NodeId[]): boolean {
  return quorum.nodes.filter((n) => !followers.includes(n)).length < quorum.count;
}

/**
 * Whether one of `followers`, all of them compared, has every commit of the partition that its dead leader
 * acknowledged. Without that a failover could lose some of them. With `durability` async nobody was promised
 * more, unless the leader was out already when that was set.
 */
export function haveAllBetween(view: ClusterView, leader: NodeId, followers: readonly NodeId[]): boolean {
  if (followers.length === 0) return false;
  const wasPromised = view.nodes.get(leader)?.outage?.promised === true;
  if (view.settings.durability === 'async' && !wasPromised) return true;
  return quorumsOf(view, leader).every((quorum) => protects(quorum, followers));
}

/** Partitions that the node still leads although its live followers have all that it acknowledged. */
export function leaderless(view: ClusterView, node: NodeId, alive: (node: NodeId) => boolean): Partition[] {
  return servedBy(view, node).filter((p) => haveAllBetween(view, node, followersOf(p, node).filter(alive)));
}

/** Quorums that commits of the node may have been acknowledged under. */
export function quorumsOf(view: ClusterView, node: NodeId): readonly Quorum[] {
  return view.nodes.get(node)?.quorums ?? [NO_QUORUM];
}

/**
 * The quorum that protects every partition of a ready table that `node` leads, and those that running
 * operations demand (docs/spec/quorum.md, Q1). A follower that is not alive is left out where its partition
 * has another that is; where it has none, `quorum_lost` decides. A partition without a follower in step with
 * its leader has nobody to protect it, and takes no part; nor does one that has `refused` all writes,
 * whatever it waits for: there is nothing to protect.
 */
export function wantedQuorum(
  view: ClusterView,
  node: NodeId,
  alive: (node: NodeId) => boolean,
  demands: readonly QuorumDemand[] = [],
  refused: ReadonlySet<string> = NOTHING,
): Quorum {
  if (view.settings.durability === 'async') return NO_QUORUM;
  const taking = protectedOn(view, node, demands).filter(
    ({ partition: p }) => !refused.has(partitionKey(p.tid, p.pid)),
  );
  return quorumFor(taking.map(({ partition, change }) => followersThatCount(view, partition, node, alive, change)));
}

const NOTHING: ReadonlySet<string> = new Set();

/**
 * What commits on the node have to be protected for, each partition with what a demand says of its followers.
 */
function protectedOn(
  view: ClusterView,
  node: NodeId,
  demands: readonly QuorumDemand[],
): { partition: Partition; change: FollowerChange }[] {
  const led = ledPartitions(view).get(node) ?? [];
  const inUse = led.filter((p) => view.tables.get(p.tid)?.state === 'ready');
  const demanded = demands
    .filter((d) => d.node === node)
    .flatMap((change) => {
      const { tid, pid } = change;
      const found = pid === null ? led.filter((p) => p.tid === tid) : [view.tables.get(tid)?.partitions[pid]];
      return found.flatMap((partition) => (partition ? [{ partition, change }] : []));
    });
  return [...inUse.map((partition) => ({ partition, change: {} })), ...demanded];
}

/**
 * Partitions that `node` leads, or is about to, and that have lost every live follower while `quorum_lost` is
 * `fail`: they are to refuse writes. Those for which it would wait under `wait`, but for tables that want one
 * replica: what follows there does so for a move.
 */
export function lostOn(
  view: ClusterView,
  node: NodeId,
  alive: (node: NodeId) => boolean,
  demands: readonly QuorumDemand[] = [],
): Partition[] {
  if (view.settings.durability !== 'quorum' || view.settings.quorum_lost !== 'fail') return [];
  const lost = protectedOn(view, node, demands).filter(({ partition, change }) => {
    const followers = followersThatCount(view, partition, node, alive, change);
    return followers.length > 0 && !followers.some(alive);
  });
  return [...new Set(lost.map(({ partition }) => partition))];
}

/**
 * A quorum that contains one of each group, whichever answers. Any L - f + 1 of the L nodes in all groups do,
 * where the smallest group has f: with two or more in each, a node that does not answer holds up nobody.
 * Where a group has one node only, that would be all L; the fewest that are in every group are better. A
 * group that has another one within it is contained with that one.
 */
export function quorumFor(groups: readonly (readonly NodeId[])[]): Quorum {
  const distinct = new Map(groups.filter((g) => g.length > 0).map((g) => [[...g].sort().join(), new Set(g)]));
  const sets = [...distinct.values()];
  const inner = sets.filter((set) => !sets.some((other) => other !== set && [...other].every((n) => set.has(n))));
  if (inner.length === 0) return NO_QUORUM;
  const fewest = Math.min(...inner.map((set) => set.size));
  const nodes = (fewest === 1 ? oneOfEach(inner) : [...new Set(inner.flatMap((set) => [...set]))]).sort(
    (a, b) => a - b,
  );
  return { count: fewest === 1 ? nodes.length : nodes.length - fewest + 1, nodes };
}

/** Few nodes that are in every set: those without choice, then what is in most of the rest. */
function oneOfEach(sets: readonly ReadonlySet<NodeId>[]): NodeId[] {
  const chosen = new Set(sets.filter((set) => set.size === 1).flatMap((set) => [...set]));
  for (;;) {
    const open = sets.filter((set) => ![...set].some((n) => chosen.has(n)));
    if (open.length === 0) return [...chosen];
    const inSets = (node: NodeId) => open.filter((set) => set.has(node)).length;
    const candidates = [...new Set(open.flatMap((set) => [...set]))];
    chosen.add(candidates.reduce((best, n) => ((inSets(n) - inSets(best) || best - n) > 0 ? n : best)));
  }
}

/** Followers of a partition as seen from `node`, which leads it or is about to. */
export function followersOf(partition: Partition, node: NodeId): NodeId[] {
  return partition.replicas.filter((r) => r.state === 'ready' && r.node !== node).map((r) => r.node);
}

type FollowerChange = Pick<QuorumDemand, 'without' | 'with'>;

function followersThatCount(
  view: ClusterView,
  partition: Partition,
  node: NodeId,
  alive: (node: NodeId) => boolean,
  change: FollowerChange = {},
): NodeId[] {
  const counting = followersOf(partition, node).filter((n) => !mayBeAway(view, partition, n));
  const stay = counting.filter((n) => !change.without?.includes(n));
  const come = partition.replicas.map((r) => r.node).filter((n) => change.with?.includes(n) && !stay.includes(n));
  const followers = [...stay, ...come];
  const live = followers.filter(alive);
  // A drained node is about to stop, maybe with the manager: where others will do, nobody waits for it.
  const lasting = live.filter((n) => !view.nodes.get(n)?.draining);
  if (lasting.length > 0) return lasting;
  return live.length > 0 || goesOnAlone(view, partition) ? live : followers;
}

/** Without a live follower its writes neither wait nor fail. */
function goesOnAlone({ settings, tables }: ClusterView, { tid }: Partition): boolean {
  if (settings.quorum_lost === 'fail') return tables.get(tid)?.replicaCount === 1;
  return settings.quorum_lost === 'allow';
}

/**
 * Drained for a stop that holds up nobody: its table wants one replica, or the operator has accepted for this
 * partition that its leader is alone.
 */
export function mayBeAway(view: ClusterView, partition: Partition, node: NodeId): boolean {
  if (view.nodes.get(node)?.draining !== true) return false;
  const isAccepted = partition.replicas.some((r) => view.nodes.get(r.node)?.drained?.alone === true);
  return isAccepted || view.tables.get(partition.tid)?.replicaCount === 1;
}

/**
 * How safe an acknowledged commit on a partition is. `quorum`: on the leader and on a live follower. `waits`:
 * its leader's node waits for followers that are not alive, and so do writes. `refuses`: its followers are
 * not alive, and no write is taken. `leader`: on the leader only, for want of a follower. `async`: asked for.
 */
export type Durability = 'quorum' | 'waits' | 'refuses' | 'leader' | 'async';

/**
 * One server has one list: where one partition of a node waits, all that the node leads wait with it.
 * `quorum`: its leader's.
 */
export function durabilityOf(
  view: ClusterView,
  partition: Partition,
  quorum: Quorum,
  alive: (node: NodeId) => boolean,
  refused: ReadonlySet<string> = NOTHING,
): Durability {
  if (view.settings.durability === 'async') return 'async';
  if (refused.has(partitionKey(partition.tid, partition.pid))) return 'refuses';
  if (quorum.nodes.filter(alive).length < quorum.count) return 'waits';
  return followersThatCount(view, partition, partition.leader, alive).length > 0 ? 'quorum' : 'leader';
}

/**
 * The changes that lead from one quorum to another, one or two at a time. Each is taken up by every walsender
 * for itself, at a moment of its own, and until the last one has, one may count the old number over the new
 * names: so a change is of the count alone, of names that come alone, or of names that go alone. Whatever
 * `wanted` protects is protected from the first change on: the count grows before names come and shrinks
 * after they have gone. Begun anew after any of its changes, it goes on with the rest (the model is Patroni's
 * quorum.py).
 */
export function* syncTransitions(observed: Quorum, wanted: Quorum): Generator<Quorum> {
  // From nothing, nothing is protected meanwhile; to nothing, nothing has to be.
  if (observed.count > 0 && wanted.count > 0) {
    const all = [...new Set([...observed.nodes, ...wanted.nodes])].sort((a, b) => a - b);
    const count = wanted.count + (all.length - wanted.nodes.length);
    let now = observed;
    for (const next of [
      { count, nodes: observed.nodes },
      { count, nodes: all },
      { count, nodes: wanted.nodes },
    ]) {
      if (!sameQuorum(now, next) && !sameQuorum(next, wanted)) yield next;
      now = next;
    }
  }
  if (!sameQuorum(observed, wanted)) yield wanted;
}

export function sameQuorum(a: Quorum, b: Quorum): boolean {
  return a.count === b.count && a.nodes.length === b.nodes.length && a.nodes.every((n, i) => n === b.nodes[i]);
}
