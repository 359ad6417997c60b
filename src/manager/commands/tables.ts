import type { AdminCommand } from '../../api/commands.ts';
import type { PartitionRow, TableRow } from '../../api/results.ts';
import type { NodeId, TableRecord } from '../../catalog/model.ts';
import { subscriptionName } from '../../catalog/names.ts';
import { type Durability, durabilityOf, NO_QUORUM, wantedQuorum } from '../../catalog/quorum.ts';
import { connectedNodes, ledPartitions, memberNodes, partitionKey, tableName } from '../../catalog/view.ts';
import { tideError } from '../../core/errors.ts';
import { placeNewTable } from '../../placement/initial.ts';
import { readyTable, tableNamed } from '../lookups.ts';
import { whyOf } from '../replication-faults.ts';
import { type CommandContext, requireFree, requireLock } from './context.ts';

const PARTITIONS = 16;
const REPLICAS = 3;

export async function createTable(
  c: CommandContext,
  command: Extract<AdminCommand, { do: 'table-create' }>,
): Promise<{ operation: number; table: string; tid: number }> {
  requireLock(c, 'schema', 'the schema');
  // Any server understands SQL for us; that of the manager's own node may be down where another could manage
  // in its place.
  const at = c.load.alive(c.home) ? c.home : (memberNodes(c.view).find((n) => c.load.alive(n.id))?.id ?? c.home);
  const shape = await c.inspector.inspectTable(at, command.sql, command.distributeBy);
  const live = memberNodes(c.view).filter((n) => c.load.alive(n.id)).length;
  const single = c.view.startMode === 'start-single-replica';
  const replicaCount = command.replicas ?? (single ? 1 : Math.max(1, Math.min(REPLICAS, live)));
  const partitionCount = command.partitions ?? PARTITIONS;
  const placement = placeNewTable(c.view, c.loadView, { partitionCount, replicaCount });
  const known = [...c.view.tables.values()].find((t) => t.schema === shape.schema && t.name === shape.name);
  if (known) throw tideError('TABLE_EXISTS', { why: `table ${tableName(known)} exists and is ${known.state}` });
  await requireNameFree(c, shape);
  const tid = await c.catalog.nextId('table');
  const table: TableRecord = {
    tid,
    schema: shape.schema,
    name: shape.name,
    state: 'creating',
    distributeBy: shape.distributeBy,
    partitionCount,
    replicaCount,
    definition: shape.definition,
    partitions: placement.map(({ leader, nodes }, pid) => ({
      tid,
      pid,
      epoch: 1,
      leader,
      replicas: [...nodes].sort((a, b) => a - b).map((node) => ({ node, state: 'ready' as const })),
    })),
  };
  const started = await c.runner.submit('create-table', { table });
  return { operation: started.id, table: tableName(table), tid };
}

/**
 * Throws TABLE_EXISTS, with the node, where an object of one node has the name: nothing has been made yet.
 */
async function requireNameFree(c: CommandContext, { schema, name }: { schema: string; name: string }): Promise<void> {
  const nodes = connectedNodes(c.view).filter((n) => c.load.alive(n.id) && n.state !== 'joining');
  const taken = await Promise.all(
    nodes.map(async ({ id }) => ({ id, what: await c.inspector.nameTaken(id, schema, name) })),
  );
  const found = taken.find((each) => each.what !== null);
  if (found) throw tideError('TABLE_EXISTS', { why: `node ${found.id} has a ${found.what} already` });
}

export async function dropTable(c: CommandContext, name: string): Promise<{ operation: number; table: string }> {
  const table = readyTable(c.view, name);
  requireLock(c, 'schema', 'the schema');
  for (const { pid } of table.partitions) requireFree(c, table, pid);
  const input = { tid: table.tid, name: tableName(table), partitions: table.partitionCount };
  const started = await c.runner.submit('drop-table', input);
  return { operation: started.id, table: tableName(table) };
}

export function listTables(c: CommandContext): TableRow[] {
  const { measurements } = c.load;
  return [...c.view.tables.values()].map((table) => {
    const sizes = table.partitions.map((p) => measurements.sizeOf(p.leader, partitionKey(p.tid, p.pid)));
    const known = sizes.filter((s) => s !== null);
    const isWhole = known.length === sizes.length;
    const sum = (field: 'rows' | 'bytes') => (isWhole ? known.reduce((total, s) => total + s[field], 0) : null);
    return {
      tid: table.tid,
      schema: table.schema,
      name: table.name,
      state: table.state,
      distributeBy: table.distributeBy,
      partitions: table.partitionCount,
      replicas: table.replicaCount,
      rows: sum('rows'),
      bytes: sum('bytes'),
      measuredAgeMs: isWhole ? oldestAgeMs(c, known) : null,
    };
  });
}

export function listPartitions(c: CommandContext, name: string | undefined): PartitionRow[] {
  const tables = name === undefined ? [...c.view.tables.values()] : [tableNamed(c.view, name)];
  const alive = (node: NodeId) => c.load.alive(node);
  const refused = (node: NodeId) => c.runner.quorums.refusedOn(node);
  const quorums = new Map(
    [...ledPartitions(c.view).keys()].map((n) => [n, wantedQuorum(c.view, n, alive, [], refused(n))]),
  );
  return tables.flatMap((table) =>
    table.partitions.flatMap((p) => {
      const durability = durabilityOf(c.view, p, quorums.get(p.leader) ?? NO_QUORUM, alive, refused(p.leader));
      return p.replicas.map((r) => row(c, table, p.pid, r.node, durability));
    }),
  );
}

function row(c: CommandContext, table: TableRecord, pid: number, node: number, durability: Durability): PartitionRow {
  const partition = table.partitions[pid];
  const replica = partition?.replicas.find((r) => r.node === node);
  const leader = partition?.leader ?? 0;
  const { measurements } = c.load;
  const size = measurements.sizeOf(node, partitionKey(table.tid, pid));
  const lag = node === leader ? null : measurements.lagOf(leader, subscriptionName(leader, node));
  return {
    table: tableName(table),
    tid: table.tid,
    pid,
    node,
    endpoint: c.view.nodes.get(node)?.address ?? '',
    role: node === leader ? 'leader' : 'follower',
    state: replica?.state ?? 'leaving',
    durability: node === leader ? durability : null,
    isAlive: c.load.alive(node),
    why: partition ? whyOf(c.view, c.streams, partition, node) : null,
    epoch: partition?.epoch ?? 0,
    offset: lag?.replayLsn ?? null,
    lagBytes: node === leader ? 0 : (lag?.lagBytes ?? null),
    rows: size?.rows ?? null,
    bytes: size?.bytes ?? null,
    measuredAgeMs: size && oldestAgeMs(c, lag ? [size, lag] : [size]),
  };
}

/** The age of the oldest of some figures; null where there is none. */
function oldestAgeMs(c: CommandContext, figures: readonly { atMs: number }[]): number | null {
  if (figures.length === 0) return null;
  return c.clock.nowMs() - Math.min(...figures.map((f) => f.atMs));
}
