import type { AdminCommand } from '../../api/commands.ts';
import type { StartedResult } from '../../api/results.ts';
import type { NodeId } from '../../catalog/model.ts';
import { haveAllBetween } from '../../catalog/quorum.ts';
import { partitionKey, replicaOn, servedPartitions, tableName } from '../../catalog/view.ts';
import { tideError } from '../../core/errors.ts';
import { outageLock } from '../../operations/operation.ts';
import { nodeById, readyTable, requirePartition } from '../lookups.ts';
import { onlyHere } from '../outage-watch.ts';
import { type CommandContext, requireLock } from './context.ts';
import { localDataRows, lookForLocalData, requireNothingLocal } from './local-data.ts';

/** The operator's word on a node that is down or cut off. */

/**
 * He asserts that nobody can write there: followers lead in its place, and it stays out until he takes it
 * back.
 */
export async function offline(c: CommandContext, node: NodeId): Promise<StartedResult> {
  const record = nodeById(c.view, node);
  if (record.state === 'decommissioned') throw tideError('NODE_DECOMMISSIONED', { node });
  if (c.load.alive(node)) throw tideError('NODE_LIVE', { node, what: 'set offline' });
  // A node that went again before it served would be waited for: a failover ends that.
  if (c.runner.holderOf(outageLock(node))?.kind !== 'recover-node') requireLock(c, outageLock(node), `node ${node}`);
  const started = await c.runner.submit('failover', { node, by: 'operator' });
  return { operation: started.id, plan: null };
}

/** It is taken back as soon as it is there: at once where it is back already. */
export async function recover(c: CommandContext, node: NodeId): Promise<StartedResult> {
  const record = nodeById(c.view, node);
  if (!record.outage) throw tideError('NODE_NOT_OFFLINE', { node, what: 'recovered' });
  requireLock(c, outageLock(node), `node ${node}`);
  await c.catalog.commit([{ kind: 'node-changed', id: node, change: { outage: { ...record.outage, by: 'manager' } } }]);
  if (!c.load.reachable(node) || !c.load.fenced(node)) return { operation: null, plan: null };
  const started = await c.runner.submit('recover-node', { node });
  return { operation: started.id, plan: null };
}

/**
 * A follower leads in place of a node that is out, with what it has. The risk of lost writes has to be
 * accepted, where there is one.
 */
export async function recoverPartition(
  c: CommandContext,
  command: Extract<AdminCommand, { do: 'partition-recover' }>,
): Promise<StartedResult> {
  const { pid, node: to } = command;
  const table = readyTable(c.view, command.table);
  const partition = requirePartition(table, pid);
  const name = `${tableName(table)} ${pid}`;
  const { leader } = partition;
  const outage = nodeById(c.view, leader).outage;
  if (!outage) throw tideError('PARTITION_LED', { partition: name, leader });
  const state = replicaOn(partition, to)?.state;
  if (!c.load.alive(to)) throw tideError('NODE_NOT_ALIVE', { nodes: `node ${to} is` });
  if (state !== 'ready' && state !== 'stale')
    throw tideError('NOT_A_FOLLOWER', { partition: name, node: to, why: 'it holds no whole replica of it' });
  const safe = state === 'ready' && haveAllBetween(c.view, leader, [to]);
  if (!safe && !command.acceptDataLoss) {
    throw tideError('WRITES_AT_RISK', {
      partitions: [name],
      leader,
      way: `tide partition recover ${tableName(table)} ${pid} ${to} --accept-data-loss`,
    });
  }
  requireLock(c, outageLock(leader), `node ${leader}`);
  const recover = { tid: table.tid, pid, to };
  const started = await c.runner.submit('failover', { node: leader, by: outage.by, recover });
  return { operation: started.id, plan: null };
}

/**
 * Takes a node that will never return out of the cluster. Refuses to lose the last copy of anything that was
 * not named.
 */
export async function drop(
  c: CommandContext,
  { node, acceptDataLoss, abandonLocalTables, sure }: Extract<AdminCommand, { do: 'node-drop' }>,
): Promise<StartedResult> {
  const record = nodeById(c.view, node);
  if (record.state === 'decommissioned') throw tideError('NODE_DECOMMISSIONED', { node });
  if (c.load.alive(node)) throw tideError('NODE_LIVE', { node, what: 'dropped' });
  if (!record.outage) throw tideError('NODE_NOT_OFFLINE', { node, what: 'dropped' });
  requireLock(c, outageLock(node), `node ${node}`);
  requireLock(c, `node:${node}`, `node ${node}`);
  const accepted = new Set(acceptDataLoss.map((name) => keyOf(c, name)));
  const last = onlyHere(c.view, node, (n) => c.load.alive(n));
  const refused = last.filter(({ partition }) => !accepted.has(partitionKey(partition.tid, partition.pid)));
  if (refused.length > 0) {
    throw tideError('LAST_COPY', {
      node,
      partitions: refused.map(({ table, partition }) => `${tableName(table)} ${partition.pid}`),
      accept: refused.map(({ table, partition }) => `${tableName(table)}/${partition.pid}`).join(','),
    });
  }
  const undecided = [...servedPartitions(c.view)].filter(
    (each) => each.partition.leader === node && !last.some(({ partition }) => partition === each.partition),
  );
  if (undecided.length > 0) {
    throw tideError('WRITES_AT_RISK', {
      partitions: undecided.map(({ table, partition }) => `${tableName(table)} ${partition.pid}`),
      leader: node,
      way: 'tide partition recover TABLE PID NODE --accept-data-loss, for each',
    });
  }
  const looked = await lookForLocalData(c, [node], abandonLocalTables);
  requireNothingLocal(looked, node, abandonLocalTables);
  if (!sure) requireLongAway(c, node, record.outage.sinceMs);
  const lost = last.map(({ partition }) => partitionKey(partition.tid, partition.pid));
  const started = await c.runner.submit('drop-node', { node, lost });
  return { operation: started.id, plan: null, localData: localDataRows(looked), notLookedAt: [...looked.notLookedAt] };
}

/** Until `node.dead_after` even the manager takes it for a node that may come back. Throws NODE_JUST_SEEN. */
function requireLongAway(c: CommandContext, node: NodeId, outSinceMs: number): void {
  const seconds = Math.max(0, Math.round((c.clock.nowMs() - (c.load.beatAt(node) ?? outSinceMs)) / 1000));
  if (seconds < c.view.settings['node.dead_after']) throw tideError('NODE_JUST_SEEN', { node, seconds });
}

function keyOf(c: CommandContext, name: string): string {
  const at = name.lastIndexOf('/');
  const table = readyTable(c.view, name.slice(0, at));
  const { tid, pid } = requirePartition(table, Number(name.slice(at + 1)));
  return partitionKey(tid, pid);
}
