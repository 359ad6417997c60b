import type { ClusterView, LoadView, NodeId, NodeRecord, Partition, TableRecord } from '../catalog/model.ts';
import { partitionKey, partitionOf, replicaOn, tableName } from '../catalog/view.ts';
import { must } from '../core/assert.ts';
import { type TideError, tideError } from '../core/errors.ts';
import { nodeList, partitionName, unknownNode } from './naming.ts';
import { roomOf } from './room.ts';

/** One move that somebody asks for by hand; every planned `Move` is one too. */
export type MoveRequest = { readonly tid: number; readonly pid: number } & (
  | { readonly kind: 'add-replica'; readonly to: NodeId }
  | { readonly kind: 'move-replica'; readonly from: NodeId; readonly to: NodeId }
  | { readonly kind: 'remove-replica'; readonly from: NodeId }
  | { readonly kind: 'resync-replica'; readonly to: NodeId }
  | { readonly kind: 'change-leader'; readonly to: NodeId }
);

/**
 * Everything that speaks against one move, all at once; an empty list means go. The tid has to be a table's.
 */
export function preflightMove(view: ClusterView, load: LoadView, request: MoveRequest): TideError[] {
  const table = must(view.tables.get(request.tid), `table ${request.tid}`);
  const partition = partitionOf(view, request.tid, request.pid);
  if (!partition) {
    const { pid } = request;
    return [tideError('PARTITION_UNKNOWN', { table: tableName(table), pid, count: table.partitionCount })];
  }
  const named = [...('from' in request ? [request.from] : []), ...('to' in request ? [request.to] : [])];
  const unknown = named.filter((id) => !view.nodes.has(id)).map((id) => unknownNode(view, id));
  if (unknown.length > 0) return unknown;
  const check: Check = { view, load, table, partition, name: partitionName(view, partition) };
  return [...checkNodes(check, named), ...checkRequest(check, request)];
}

interface Check {
  readonly view: ClusterView;
  readonly load: LoadView;
  readonly table: TableRecord;
  readonly partition: Partition;
  /** `acct 4` */
  readonly name: string;
}

function checkRequest(check: Check, request: MoveRequest): TideError[] {
  switch (request.kind) {
    case 'add-replica':
      return checkTarget(check, request.to);
    case 'move-replica':
      return [...checkHolds(check, request.from), ...checkTarget(check, request.to)];
    case 'remove-replica':
      return checkRemoval(check, request.from);
    case 'resync-replica': {
      const missing = checkHolds(check, request.to);
      return missing.length > 0 ? missing : checkNotLeader(check, request.to, 'copied again');
    }
    case 'change-leader':
      return checkCandidate(check, request.to);
  }
}

/** The leader is copied from, or hands over: without it nothing moves. */
function checkNodes({ load, partition, name }: Check, named: readonly NodeId[]): TideError[] {
  const isDead = (id: NodeId) => !(load.nodes.get(id)?.alive ?? false);
  const dead = [...new Set(named)].filter(isDead);
  const errors: TideError[] = [];
  if (dead.length > 0) {
    errors.push(tideError('NODE_NOT_ALIVE', { nodes: `${nodeList(dead)} ${dead.length === 1 ? 'is' : 'are'}` }));
  }
  if (isDead(partition.leader) && !dead.includes(partition.leader)) {
    errors.push(tideError('PARTITION_UNAVAILABLE', { partitions: [`${name} (node ${partition.leader})`] }));
  }
  return errors;
}

function checkTarget(check: Check, to: NodeId): TideError[] {
  const { view, load, partition, name } = check;
  const errors = checkEligible(check, to, 'take a replica');
  if (replicaOn(partition, to)) errors.push(tideError('REPLICA_EXISTS', { partition: name, node: to }));
  const bytesNeeded = load.partitionBytes.get(partitionKey(partition.tid, partition.pid)) ?? 0;
  const room = roomOf(view, load, to);
  if (bytesNeeded > Math.max(0, room)) {
    const marginPercent = view.settings['disk.margin'];
    const bytesThere = Math.max(0, room);
    errors.push(
      tideError('NO_DISK_ROOM', { partitions: [name], bytesNeeded, bytesThere, nodes: `node ${to}`, marginPercent }),
    );
  }
  return errors;
}

function checkEligible({ view }: Check, id: NodeId, what: string): TideError[] {
  const node: NodeRecord = must(view.nodes.get(id), `node ${id}`);
  if (node.state !== 'active') return [tideError('NODE_NOT_ELIGIBLE', { node: id, state: node.state, what })];
  if (node.draining) return [tideError('NODE_NOT_ELIGIBLE', { node: id, state: 'draining', what })];
  return [];
}

function checkHolds({ partition, name }: Check, node: NodeId): TideError[] {
  if (replicaOn(partition, node)) return [];
  const holders = nodeList(partition.replicas.map((r) => r.node));
  return [tideError('REPLICA_MISSING', { partition: name, node, holders })];
}

function checkNotLeader({ partition, name }: Check, node: NodeId, fate: string): TideError[] {
  return partition.leader === node ? [tideError('LEADER_NOT_REMOVABLE', { partition: name, node, fate })] : [];
}

function checkRemoval(check: Check, from: NodeId): TideError[] {
  const missing = checkHolds(check, from);
  if (missing.length > 0) return missing;
  const { partition, table, name } = check;
  const errors = checkNotLeader(check, from, 'removed');
  // Only complete replicas count as left: one that is being copied or missed rows protects nothing yet.
  const left = partition.replicas.filter((r) => r.node !== from && r.state === 'ready').length;
  const wanted = table.replicaCount;
  if (left < wanted) errors.push(tideError('BELOW_REPLICA_COUNT', { partition: name, left, wanted }));
  return errors;
}

function checkCandidate(check: Check, to: NodeId): TideError[] {
  const { partition, name } = check;
  const errors = checkEligible(check, to, 'lead');
  const replica = replicaOn(partition, to);
  const refuse = (why: string) => errors.push(tideError('NOT_A_FOLLOWER', { partition: name, node: to, why }));
  if (!replica) refuse('it holds no replica of it');
  else if (partition.leader === to) refuse('it leads it already');
  else if (replica.state !== 'ready') refuse(`its replica is ${replica.state}`);
  return errors;
}
