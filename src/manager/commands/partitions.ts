import type { AdminCommand } from '../../api/commands.ts';
import type { NodeId, Partition } from '../../catalog/model.ts';
import { tideError } from '../../core/errors.ts';
import { type MoveRequest, preflightMove } from '../../placement/preflight.ts';
import { readyTable, requirePartition } from '../lookups.ts';
import { type CommandContext, requireFree, throwAll } from './context.ts';

type Started = Promise<{ operations: number[] }>;

/**
 * Moves asked for by hand. All partitions are checked before the first operation is journaled: all are
 * accepted, or none.
 */
async function start(
  c: CommandContext,
  name: string,
  pids: readonly number[],
  request: (partition: Partition) => { kind: MoveRequest['kind']; from?: NodeId; to?: NodeId },
): Started {
  const table = readyTable(c.view, name);
  const partitions = pids.map((pid) => requirePartition(table, pid));
  const moves = partitions.map((p) => ({ tid: p.tid, pid: p.pid, ...request(p) }) as MoveRequest);
  throwAll(moves.flatMap((move) => preflightMove(c.view, c.loadView, move)));
  for (const pid of pids) requireFree(c, table, pid);
  const operations: number[] = [];
  for (const { kind, ...input } of moves) operations.push((await c.runner.submit(kind, input)).id);
  return { operations };
}

export function migrate(c: CommandContext, command: Extract<AdminCommand, { do: 'partition-migrate' }>): Started {
  if (command.from === command.to) {
    throw tideError('BAD_REQUEST', { what: 'partition migrate', why: `source and target are both node ${command.to}` });
  }
  return start(c, command.table, command.pids, () => ({ kind: 'move-replica', from: command.from, to: command.to }));
}

export function changeLeader(
  c: CommandContext,
  command: Extract<AdminCommand, { do: 'partition-change-leader' }>,
): Started {
  return start(c, command.table, [command.pid], (partition) => ({
    kind: 'change-leader',
    from: partition.leader,
    to: command.to === 'auto' ? bestFollower(c, partition) : command.to,
  }));
}

/**
 * A live follower on the member that leads least. Where there is none, the leader itself: the preflight says
 * what is wrong.
 */
function bestFollower(c: CommandContext, partition: Partition): NodeId {
  const leads = (node: NodeId) =>
    [...c.view.tables.values()].flatMap((t) => t.partitions).filter((p) => p.leader === node).length;
  const able = partition.replicas
    .filter((r) => r.state === 'ready' && r.node !== partition.leader && c.load.alive(r.node))
    .filter((r) => c.view.nodes.get(r.node)?.state === 'active' && !c.view.nodes.get(r.node)?.draining)
    .sort((a, b) => leads(a.node) - leads(b.node) || a.node - b.node);
  return able[0]?.node ?? partition.leader;
}

export function addReplica(
  c: CommandContext,
  command: Extract<AdminCommand, { do: 'partition-add-replica' }>,
): Started {
  return start(c, command.table, command.pids, () => ({ kind: 'add-replica', to: command.node }));
}

export function delReplica(
  c: CommandContext,
  command: Extract<AdminCommand, { do: 'partition-del-replica' }>,
): Started {
  return start(c, command.table, command.pids, () => ({ kind: 'remove-replica', from: command.node }));
}
