import type { AdminCommand } from '../../api/commands.ts';
import type { ManagerRow, ManagersResult, NodeStatusRow, PlanResult, StartedResult } from '../../api/results.ts';
import type { NodeId, NodeRecord } from '../../catalog/model.ts';
import { diskOf, diskState } from '../../catalog/retention.ts';
import { allPartitions, connectedNodes, memberNodes, partitionKey, replicaOn } from '../../catalog/view.ts';
import { must } from '../../core/assert.ts';
import { isoTime } from '../../core/clock.ts';
import { tideError } from '../../core/errors.ts';
import { few } from '../../core/lists.ts';
import type { OperationRecord } from '../../operations/operation.ts';
import { partitionName } from '../../placement/naming.ts';
import { type Plan, plan } from '../../placement/plan.ts';
import { preflightScaleIn } from '../../placement/preflight.ts';
import { withAddedNodes, withDecommissioning, withDraining } from '../../placement/whatif.ts';
import { ROLES_FORMAT } from '../../store/meta-store.ts';
import { planData } from '../balancer.ts';
import { nodeById } from '../lookups.ts';
import { replicationOf } from '../replication-faults.ts';
import { planResult } from '../rows.ts';
import { type CommandContext, requireLock, throwAll } from './context.ts';
import { localDataRows, lookForLocalData, requireNothingLocal } from './local-data.ts';

type Command<V extends AdminCommand['do']> = Extract<AdminCommand, { do: V }>;

export function nodeStatus(c: CommandContext): NodeStatusRow[] {
  const { measurements } = c.load;
  const nowMs = c.clock.nowMs();
  const { loadView } = c;
  return [...c.view.nodes.values()].map((node) => {
    const measuredMs = measurements.measuredAt(node.id);
    const here = [...allPartitions(c.view)].filter(({ partition }) => replicaOn(partition, node.id));
    const beatAt = c.load.beatAt(node.id);
    const known = diskOf(loadView, node.id);
    const alive = c.load.alive(node.id);
    const ready = (p: (typeof here)[number]) =>
      p.partition.replicas.filter((r) => r.state === 'ready' && c.load.alive(r.node)).length;
    return {
      id: node.id,
      address: node.address,
      sqlAddress: node.address,
      httpAddress: node.httpAddress,
      build: node.build,
      startedAt: node.startedAt,
      updatedAt: beatAt === null ? null : isoTime(beatAt),
      locality: node.locality.map((t) => `${t.key}=${t.value}`).join(','),
      attrs: node.attrs.join(','),
      startMode: node.startMode,
      isAvailable: alive && node.state !== 'decommissioned' && node.state !== 'joining',
      isLive: alive,
      isManager: node.id === c.home,
      state: node.state,
      condition: c.outageWatch.condition(node.id),
      replicas: here.length,
      leaders: here.filter(({ partition }) => partition.leader === node.id).length,
      isDecommissioning: node.state === 'decommissioning' || node.state === 'decommissioned',
      isDraining: node.draining,
      partitionsUnavailable: here.filter(({ partition }) => !c.load.alive(partition.leader)).length,
      partitionsUnderReplicated: here.filter((p) => ready(p) < p.table.replicaCount).length,
      bytes: here.reduce((sum, { partition }) => {
        return sum + (measurements.sizeOf(node.id, partitionKey(partition.tid, partition.pid))?.bytes ?? 0);
      }, 0),
      measuredAgeMs: measuredMs === null ? null : nowMs - measuredMs,
      diskTotalBytes: known?.totalBytes ?? null,
      diskFreeBytes: known?.freeBytes ?? null,
      replication: replicationOf(c.view, c.streams, node.id),
      disk: known && diskState(known, c.view.settings),
    };
  });
}

/**
 * Which node manages, and which could take over: those that are alive, reach the meta store and know the
 * format that it has now.
 */
export async function listManagers(c: CommandContext): Promise<ManagersResult> {
  const leased = new Set((await c.shared?.leased()) ?? []);
  const format = c.view.ownRoles ? ROLES_FORMAT : ROLES_FORMAT - 1;
  const able = memberNodes(c.view).filter(
    (n) => n.id === c.home || (leased.has(n.id) && c.load.metaFormat(n.id) >= format),
  );
  const managers = able.map(({ id, address }): ManagerRow => {
    const isLeader = id === c.home;
    return {
      node: id,
      endpoint: address,
      role: isLeader ? 'leader' : 'standby',
      term: isLeader ? (c.shared?.term ?? null) : null,
    };
  });
  return { meta: c.shared?.url ?? null, managers };
}

/** The plan that leads to "these nodes hold nothing". */
function scaleInPlan(c: CommandContext, nodes: readonly NodeId[]): Plan {
  return plan(withDecommissioning(c.view, nodes), c.loadView, { kind: 'repair' });
}

export async function decommission(c: CommandContext, command: Command<'node-decommission'>): Promise<StartedResult> {
  const nodes = [...new Set(command.nodes)].sort((a, b) => a - b);
  const { abandonLocalTables: abandon } = command;
  for (const id of nodes) nodeById(c.view, id);
  const waiting = abandon && !command.dryRun ? leavingAlready(c, nodes) : null;
  if (waiting) return giveUpLocalData(c, nodes, waiting);
  const looked = await lookForLocalData(c, nodes, abandon);
  throwAll(preflightScaleIn(c.view, c.loadView, nodes, command.checks, abandon ? new Map() : looked.found));
  const wanted = scaleInPlan(c, nodes);
  const localData = localDataRows(looked);
  if (command.dryRun) return { operation: null, plan: planResult(c.view, wanted), localData };
  // The embedded meta store is a file on that node: it moves first, and its new home repeats this command.
  if (c.shared === null && nodes.includes(c.home))
    throw tideError('META_HOME', { node: c.home, successor: successorOf(c, nodes) });
  for (const id of nodes) requireLock(c, `node:${id}`, `node ${id}`);
  const placement = Object.fromEntries(
    [...allPartitions(c.view)].map(({ partition }) => [
      partitionKey(partition.tid, partition.pid),
      { leader: partition.leader, nodes: partition.replicas.map((r) => r.node) },
    ]),
  );
  const input = { nodes, placement, abandonLocalTables: abandon };
  const started = await c.runner.submit('decommission', input, null, planData(wanted));
  return { operation: started.id, plan: planResult(c.view, wanted), localData };
}

/** The decommission that all of these nodes are leaving by. */
function leavingAlready(c: CommandContext, nodes: readonly NodeId[]): OperationRecord | null {
  const operations = nodes.map((id) => c.runner.holderOf(`node:${id}`));
  const [first] = operations;
  return first?.kind === 'decommission' && operations.every((op) => op?.id === first.id) ? first : null;
}

/** They may be waiting for somebody to say so, because there was nothing when they began. */
async function giveUpLocalData(
  c: CommandContext,
  nodes: readonly NodeId[],
  operation: OperationRecord,
): Promise<StartedResult> {
  const looked = await lookForLocalData(c, nodes, true);
  await c.catalog.commit(nodes.map((id) => ({ kind: 'node-changed', id, change: { mayTakeLocalTables: true } })));
  return { operation: operation.id, plan: null, localData: localDataRows(looked) };
}

/**
 * Which node takes the meta store over: the live member with the lowest id that stays. The preflight has seen
 * to it that there is one.
 */
function successorOf(c: CommandContext, leaving: readonly NodeId[]): NodeId {
  const staying = memberNodes(c.view).filter((n) => !leaving.includes(n.id) && c.load.alive(n.id));
  return must(staying[0], 'a node that stays').id;
}

export async function recommission(c: CommandContext, command: Command<'node-recommission'>): Promise<StartedResult> {
  const nodes = [...new Set(command.nodes)].sort((a, b) => a - b);
  for (const id of nodes) {
    const node = nodeById(c.view, id);
    if (node.state === 'decommissioned') throw tideError('NODE_DECOMMISSIONED', { node: id });
    if (node.state !== 'decommissioning') throw tideError('NODE_NOT_DECOMMISSIONING', { node: id, state: node.state });
  }
  const operations = new Map<number, OperationRecord>();
  for (const id of nodes) {
    const running = c.runner.holderOf(`node:${id}`);
    if (running?.kind !== 'decommission') continue;
    const together = running.input.nodes as number[];
    if (!together.every((n) => nodes.includes(n))) {
      throw tideError('NODES_SHARE_OPERATION', { nodes: `node ${id}`, operation: running.id, all: together.join(' ') });
    }
    operations.set(running.id, running);
  }
  for (const id of operations.keys()) await c.runner.cancel(id);
  return { operation: [...operations.keys()][0] ?? null, plan: null };
}

/**
 * Takes the leaders off a node before a planned stop. Throws DRAIN_UNCOVERED where that would leave rows
 * without a leader or a follower.
 */
export async function drain(c: CommandContext, command: Command<'node-drain'>): Promise<StartedResult> {
  const { node, allowSingleReplica: alone } = command;
  requireLiveMember(c, node);
  const wanted = plan(withDraining(c.view, node), c.loadView, { kind: 'cover', node });
  const bare = wanted.blocked.filter((b) => b.node === node);
  if (bare.length > 0 && !alone) {
    const partitions = bare.map(({ tid, pid }) => partitionName(c.view, { tid, pid }));
    throw tideError('DRAIN_UNCOVERED', { node, partitions, why: bare[0]?.why ?? '' });
  }
  const data = alone || wanted.bytesMoved === 0 ? {} : planData(wanted);
  const started = await c.runner.submit('drain-node', { node, draining: true, alone }, null, data);
  return { operation: started.id, plan: null };
}

export async function undrain(c: CommandContext, { node }: Command<'node-undrain'>): Promise<StartedResult> {
  requireLiveMember(c, node);
  const started = await c.runner.submit('drain-node', { node, draining: false });
  return { operation: started.id, plan: null };
}

function requireLiveMember(c: CommandContext, node: NodeId): void {
  const record = nodeById(c.view, node);
  if (record.state !== 'active') throw tideError('NODE_NOT_ACTIVE', { node, state: record.state });
  if (!c.load.alive(node)) throw tideError('NODE_NOT_ALIVE', { nodes: `node ${node} is` });
  requireLock(c, `node:${node}`, `node ${node}`);
}

export async function scaleOut(c: CommandContext, command: Command<'scale-out'>): Promise<StartedResult> {
  await c.load.measureNow(c.view);
  const wanted = plan(c.view, c.loadView, { kind: 'balance' });
  const result = planResult(c.view, wanted);
  if (command.dryRun) return { operation: null, plan: result };
  // Data may be spreading by itself already: then that is the operation to wait for.
  const running = c.runner.holderOf('rebalance');
  if (running) return { operation: running.id, plan: result };
  if (wanted.moves.length === 0) return { operation: null, plan: result };
  const started = await c.runner.submit(
    'rebalance',
    { goal: 'balance', why: 'asked for by scale out' },
    null,
    planData(wanted),
  );
  return { operation: started.id, plan: result };
}

/**
 * May be repeated at any moment, and goes on where it was: nodes that are leaving are waited for, nodes that
 * have left (`out`) have only to be stopped. Before that they are looked at once more, because clients go on
 * writing to them until then.
 */
export async function scaleIn(c: CommandContext, command: Command<'scale-in'>): Promise<StartedResult> {
  const { dryRun, checks, abandonLocalTables } = command;
  const named = command.endpoints.map((endpoint) => nodeAt(c, endpoint));
  const left = named.filter((n) => n.state === 'decommissioned');
  const out = left.map(({ id, address, httpAddress }) => ({ node: id, address, httpAddress }));
  const looked = await lookForLocalData(
    c,
    left.map((n) => n.id).filter((id) => c.load.reachable(id)),
    abandonLocalTables,
  );
  for (const { id, mayTakeLocalTables: may } of left)
    requireNothingLocal(looked, id, abandonLocalTables || may === true);
  const nodes = named.filter((n) => n.state !== 'decommissioned').map((n) => n.id);
  if (nodes.length === 0) return { operation: null, plan: null, localData: localDataRows(looked), out };
  const running = leavingAlready(c, nodes);
  if (running && !dryRun && !abandonLocalTables) return { operation: running.id, plan: null, localData: [], out };
  const decommissioned = await decommission(c, { do: 'node-decommission', nodes, dryRun, checks, abandonLocalTables });
  return { ...decommissioned, out };
}

/** An address may have been used again by a node that joined later: the highest id holds it now. */
function nodeAt(c: CommandContext, endpoint: string): NodeRecord {
  const nodes = [...c.view.nodes.values()].sort((a, b) => b.id - a.id);
  const found = nodes.find((n) => n.address === endpoint || n.httpAddress === endpoint);
  if (found) return found;
  const known = connectedNodes(c.view).map((n) => n.address);
  throw tideError('NODE_UNKNOWN', { node: endpoint, known: few(known) });
}

export async function planCommand(c: CommandContext, command: Command<'plan'>): Promise<PlanResult> {
  const asked = [command.add !== undefined, command.remove !== undefined, command.rebalance === true];
  if (asked.filter(Boolean).length !== 1) {
    throw tideError('BAD_REQUEST', { what: 'plan', why: 'it takes exactly one of add, remove and rebalance' });
  }
  await c.load.measureNow(c.view);
  if (command.add !== undefined) {
    const world = withAddedNodes(c.view, c.loadView, command.add);
    return planResult(world.view, plan(world.view, world.load, { kind: 'balance' }));
  }
  if (command.remove !== undefined) {
    const nodes = command.remove;
    for (const id of nodes) nodeById(c.view, id);
    const { abandonLocalTables: abandon } = command;
    const looked = await lookForLocalData(c, nodes, abandon);
    throwAll(preflightScaleIn(c.view, c.loadView, nodes, 'enabled', abandon ? new Map() : looked.found));
    return { ...planResult(c.view, scaleInPlan(c, nodes)), localData: localDataRows(looked) };
  }
  return planResult(c.view, plan(c.view, c.loadView, { kind: 'balance' }));
}
