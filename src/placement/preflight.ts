import type { ClusterView, LoadView, NodeId, Partition } from '../catalog/model.ts';
import { allPartitions, connectedNodes, tableName } from '../catalog/view.ts';
import { type TideError, tideError } from '../core/errors.ts';
import { type LocalData, totalsOf } from '../core/local-data.ts';
import { Localities } from './localities.ts';
import type { Blocked, Move } from './moves.ts';
import { nodeList, partitionName, unknownNode } from './naming.ts';
import { viewAfter } from './outcome.ts';
import { plan } from './plan.ts';
import { roomOf } from './room.ts';
import { withDecommissioning } from './whatif.ts';

export { type MoveRequest, preflightMove } from './preflight-move.ts';

/**
 * `enabled`: the default. `strict` adds what is allowed but unwise. `skip` leaves out what protects no data.
 */
export type Checks = 'enabled' | 'strict' | 'skip';

/**
 * Everything that speaks against decommissioning `nodes`, all at once; an empty list means go.
 *
 * Never skipped, because they protect data: the named nodes are known, alive and not leaving already; every
 * partition has a live leader and its full number of replicas; every table's replica count has nodes; every
 * replica has a target with room; none of the nodes takes along what no other node has (`local`: what was
 * found on them; nothing where somebody has given it up). `skip` leaves out: bystanders that are down, and
 * `min_nodes`. `strict` adds: no spread is lost, and no other scale-in runs.
 */
export function preflightScaleIn(
  view: ClusterView,
  load: LoadView,
  nodes: readonly NodeId[],
  checks: Checks,
  local: LocalFindings,
): TideError[] {
  const named = [...new Set(nodes)].sort((a, b) => a - b);
  const wrong = named.flatMap((id) => unfit(view, id));
  const leaving = named.filter((id) => unfit(view, id).length === 0);
  if (leaving.length === 0) return wrong;
  const unhealthy = [
    ...checkAlive(view, load, checks === 'skip' ? leaving : connectedNodes(view).map((n) => n.id)),
    ...checkPartitions(view, load),
  ];
  const tooFew = checkNodesLeft(view, leaving, checks);
  const others = [...view.nodes.values()].filter((n) => n.state === 'decommissioning').map((n) => n.id);
  if (checks === 'strict' && others.length > 0) tooFew.push(tideError('SCALE_IN_RUNNING', { nodes: nodeList(others) }));
  // On a cluster that is not whole the planner would only repeat, replica by replica, what has just been
  // said.
  const homeless = unhealthy.length === 0 ? checkTargets(view, load, leaving, checks) : [];
  return [
    ...wrong,
    ...unhealthy,
    ...tooFew,
    ...homeless,
    ...leaving.flatMap((id) => takesAlong(id, local.get(id) ?? [])),
  ];
}

/** What each node holds that no other has. */
export type LocalFindings = ReadonlyMap<NodeId, readonly LocalData[]>;

/** An error's details name this many; their counts are of all. */
const LOCAL_DETAILS_MAX = 100;

/** LOCAL_TABLES where a node would take something along. */
export function takesAlong(node: NodeId, found: readonly LocalData[]): TideError[] {
  if (found.length === 0) return [];
  return [tideError('LOCAL_TABLES', { node, ...totalsOf(found), found: found.slice(0, LOCAL_DETAILS_MAX) })];
}

function unfit(view: ClusterView, id: NodeId): TideError[] {
  const node = view.nodes.get(id);
  if (!node) return [unknownNode(view, id)];
  if (node.state !== 'decommissioning' && node.state !== 'decommissioned') return [];
  return [tideError('NODE_ALREADY_DECOMMISSIONING', { node: id, state: node.state })];
}

function checkAlive(view: ClusterView, load: LoadView, ids: readonly NodeId[]): TideError[] {
  const dead = ids.filter((id) => view.nodes.has(id) && !isAlive(load, id));
  if (dead.length === 0) return [];
  return [tideError('NODE_NOT_ALIVE', { nodes: `${nodeList(dead)} ${dead.length === 1 ? 'is' : 'are'}` })];
}

function isAlive(load: LoadView, id: NodeId): boolean {
  return load.nodes.get(id)?.alive ?? false;
}

function checkPartitions(view: ClusterView, load: LoadView): TideError[] {
  const leaderless: string[] = [];
  const short: string[] = [];
  for (const { table, partition } of allPartitions(view)) {
    if (table.state === 'dropping') continue;
    const name = `${tableName(table)} ${partition.pid}`;
    const sound = partition.replicas.filter((r) => r.state === 'ready' && isAlive(load, r.node)).length;
    if (!isAlive(load, partition.leader)) leaderless.push(`${name} (node ${partition.leader})`);
    else if (sound < table.replicaCount) short.push(`${name} (${sound} of ${table.replicaCount})`);
  }
  const errors: TideError[] = [];
  if (leaderless.length > 0) {
    errors.push(tideError('PARTITION_UNAVAILABLE', { partitions: leaderless }));
  }
  if (short.length > 0) errors.push(tideError('PARTITION_UNDER_REPLICATED', { partitions: short }));
  return errors;
}

function checkNodesLeft(view: ClusterView, leaving: readonly NodeId[], checks: Checks): TideError[] {
  const left = [...view.nodes.values()].filter((n) => n.state === 'active' && !leaving.includes(n.id)).length;
  const short = new Map<number, string[]>();
  for (const table of [...view.tables.values()].sort((a, b) => a.tid - b.tid)) {
    if (table.state === 'dropping' || table.replicaCount <= left) continue;
    short.set(table.replicaCount, [...(short.get(table.replicaCount) ?? []), tableName(table)]);
  }
  const errors = [...short].map(([replicas, tables]) =>
    tideError('TOO_FEW_NODES_FOR_REPLICAS', { tables, replicas, nodes: left }),
  );
  const minNodes = view.settings.min_nodes;
  if (left < minNodes && checks !== 'skip') errors.push(tideError('BELOW_MIN_NODES', { left, minNodes }));
  return errors;
}

/**
 * Runs the planner that the operation will run: what it cannot place is refused now, not waited for later.
 */
function checkTargets(view: ClusterView, load: LoadView, leaving: readonly NodeId[], checks: Checks): TideError[] {
  const without = withDecommissioning(view, leaving);
  const drained = plan(without, load, { kind: 'repair' });
  const errors: TideError[] = [];
  const left = [...without.nodes.values()].filter((n) => n.state === 'active').length;
  // Tables that have too few nodes left have been named as such already.
  const blocked = drained.blocked.filter((b) => (view.tables.get(b.tid)?.replicaCount ?? 0) <= left);
  const noRoom = blocked.filter((b) => b.full.length > 0);
  const noTarget = blocked.filter((b) => b.full.length === 0);
  if (noRoom.length > 0) errors.push(noDiskRoom(without, load, noRoom, drained.moves));
  if (noTarget.length > 0) {
    const replicas = noTarget.map((b) => (b.node === null ? b.why : `node ${b.node}: ${b.why}`));
    errors.push(tideError('NO_TARGET', { replicas }));
  }
  const crowded = checks === 'strict' ? crowdedBy(without, drained.moves) : [];
  if (crowded.length > 0) errors.push(tideError('LOCALITY_WORSE', { partitions: crowded }));
  return errors;
}

function noDiskRoom(view: ClusterView, load: LoadView, blocked: readonly Blocked[], moves: readonly Move[]): TideError {
  const nodes = [...new Set(blocked.flatMap((b) => b.full))];
  const bytesThere = nodes.reduce((sum, id) => {
    const used = moves.reduce((bytes, m) => bytes + ('to' in m && m.to === id ? m.bytes : 0), 0);
    return sum + Math.max(0, roomOf(view, load, id) - used);
  }, 0);
  return tideError('NO_DISK_ROOM', {
    partitions: blocked.map((b) => partitionName(view, b)),
    bytesNeeded: blocked.reduce((sum, b) => sum + b.bytes, 0),
    bytesThere,
    nodes: nodeList(nodes),
    marginPercent: view.settings['disk.margin'],
  });
}

/** Partitions whose replicas share more localities after `moves` than before. */
function crowdedBy(view: ClusterView, moves: readonly Move[]): string[] {
  const nodes = connectedNodes(view);
  const localities = new Localities(nodes);
  const index = new Map(nodes.map((n, i) => [n.id, i]));
  const crowding = (p: Partition) => localities.crowdingOf(p.replicas.map((r) => index.get(r.node) ?? 0));
  const after = viewAfter(view, moves);
  const worse: string[] = [];
  for (const { table, partition } of allPartitions(view)) {
    const then = after.tables.get(table.tid)?.partitions[partition.pid];
    if (then && crowding(then) > crowding(partition)) worse.push(partitionName(view, partition));
  }
  return worse;
}
