import type { ClusterView, LoadView, NodeId, Partition, TableRecord } from '../catalog/model.ts';
import { tideError } from '../core/errors.ts';
import { Draft } from './draft.ts';
import { balanceLeaders } from './leaders.ts';

export interface NewPlacement {
  leader: NodeId;
  /** Leader included, by id. */
  nodes: NodeId[];
}

/**
 * Where the partitions of a new, empty table go, by pid: spread over localities, the same number of replicas
 * and leaders on every node give or take one, and what does not divide evenly to the nodes that hold least.
 * Throws TOO_FEW_NODES_FOR_REPLICAS.
 */
export function placeNewTable(
  view: ClusterView,
  load: LoadView,
  wanted: { partitionCount: number; replicaCount: number },
): NewPlacement[] {
  const draft = new Draft(view, load);
  const takers = draft.nodes.takers();
  if (takers.length < wanted.replicaCount) {
    throw tideError('TOO_FEW_NODES_FOR_REPLICAS', {
      tables: [],
      replicas: wanted.replicaCount,
      nodes: takers.length,
    });
  }
  const replicas = new Int32Array(draft.nodes.records.length);
  const leaders = new Int32Array(draft.nodes.records.length);
  const pairs = new Set<number>();
  const placed: number[][] = [];
  for (let pid = 0; pid < wanted.partitionCount; pid++) {
    const chosen: number[] = [];
    while (chosen.length < wanted.replicaCount) chosen.push(nextNode(draft, takers, replicas, pairs, chosen));
    for (const n of chosen) {
      replicas[n] = (replicas[n] ?? 0) + 1;
      for (const other of chosen) if (other !== n) pairs.add(n * draft.nodes.records.length + other);
    }
    const leader = least(chosen, (n) => [leaders[n] ?? 0, draft.leaders.count[n] ?? 0, n]);
    leaders[leader] = (leaders[leader] ?? 0) + 1;
    placed.push([leader, ...chosen.filter((n) => n !== leader)]);
  }
  return evenLeaders(view, load, draft, placed);
}

/**
 * Best spread first, then the node with fewest replicas of this table, then of all tables, then one that
 * shares data already.
 */
function nextNode(
  draft: Draft,
  takers: readonly number[],
  replicas: Int32Array,
  pairs: ReadonlySet<number>,
  chosen: readonly number[],
): number {
  const free = takers.filter((n) => !chosen.includes(n));
  return least(free, (n) => {
    const strangers = chosen.filter((other) => !pairs.has(n * draft.nodes.records.length + other)).length;
    const here = replicas[n] ?? 0;
    return [draft.nodes.localities.crowding(n, chosen), here, (draft.replicas.count[n] ?? 0) + here, strangers, n];
  });
}

/**
 * Choosing leaders one after the other can end uneven; the planner's own leader balance, on this table alone,
 * mends that.
 */
function evenLeaders(view: ClusterView, load: LoadView, before: Draft, placed: readonly number[][]): NewPlacement[] {
  const partitions = placed.map((nodes, pid): Partition => {
    const replicas = nodes
      .map((n) => ({ node: before.nodes.id(n), state: 'ready' as const }))
      .sort((a, b) => a.node - b.node);
    return { tid: 1, pid, epoch: 1, leader: before.nodes.id(nodes[0] ?? 0), replicas };
  });
  const table: TableRecord = {
    tid: 1,
    schema: 'public',
    name: 'new',
    state: 'ready',
    distributeBy: '',
    partitionCount: partitions.length,
    replicaCount: placed[0]?.length ?? 0,
    definition: { columns: [], primaryKey: [], checks: [], indexes: [] },
    partitions,
  };
  const draft = new Draft({ ...view, tables: new Map([[1, table]]) }, load);
  balanceLeaders(draft);
  return partitions.map((partition, p) => ({
    leader: draft.nodes.id(draft.leaders.of[p] ?? 0),
    nodes: partition.replicas.map((r) => r.node),
  }));
}

/** The item whose ranks come first, compared one after the other. */
function least(items: readonly number[], ranks: (item: number) => number[]): number {
  let best = -1;
  let bestRanks: number[] = [];
  for (const item of items) {
    const itsRanks = ranks(item);
    const differs = itsRanks.findIndex((rank, i) => rank !== bestRanks[i]);
    if (best < 0 || (itsRanks[differs] ?? 0) < (bestRanks[differs] ?? 0)) [best, bestRanks] = [item, itsRanks];
  }
  return best;
}
