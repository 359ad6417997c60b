import type { NodeStatusRow, PartitionRow, PlanResult } from '../api/results.ts';
import type { Session } from './session.ts';

/** So many of a kind are named; `--format=json` of the commands behind them has all. */
const NAMED_MAX = 10;

/**
 * Warns of what cannot be replicated, of partitions that nobody leads and of replicas that are missing, and
 * says what keeps them from being made.
 */
export async function warnOfShortages(session: Session, nodes: readonly NodeStatusRow[]): Promise<void> {
  for (const { replication } of nodes) if (replication) session.warn(replication);
  if (!nodes.some((n) => n.partitionsUnavailable > 0 || n.partitionsUnderReplicated > 0)) return;
  const partitions = await session.call({ do: 'partition-ls' });
  const { blocked } = await session.call({ do: 'plan', rebalance: true });
  for (const node of nodes) for (const text of ofNode(node, partitions)) session.warn(text);
  warnOfBlocked(session, blocked);
}

export function warnOfBlocked(session: Session, blocked: PlanResult['blocked']): void {
  for (const replica of blocked.slice(0, NAMED_MAX)) {
    const where = replica.node === null ? '' : ` on n${replica.node}`;
    session.warn(`${replica.table} partition ${replica.pid}${where} has no target: ${replica.why}`);
  }
  if (blocked.length > NAMED_MAX) session.warn(`${blocked.length - NAMED_MAX} more replicas have no target`);
}

const NEXT: Partial<Record<NodeStatusRow['condition'], string>> = {
  silent: 'start it again, or say that it is gone with tide node offline',
  down: 'start it again; with auto_failover off, tide node offline lets others lead',
  out: 'start it again, or decide who leads with tide partition recover',
  offline: 'start it again and take it back with tide node recover, or decide who leads with tide partition recover',
};

function ofNode({ id, condition, replicas }: NodeStatusRow, partitions: readonly PartitionRow[]): string[] {
  const led = partitions.filter((p) => p.node === id && p.role === 'leader' && !p.isAlive);
  const next = NEXT[condition];
  const isAway = condition === 'out' || condition === 'offline';
  return [
    ...(led.length > 0
      ? [`nobody leads ${named(led)} while node ${id} is ${condition}${next ? `: ${next}` : ''}`]
      : []),
    ...(isAway && replicas > 0
      ? [`node ${id} is ${condition}: its replicas are made elsewhere when it has been for node.dead_after seconds`]
      : []),
  ];
}

function named(partitions: readonly PartitionRow[]): string {
  const names = partitions.slice(0, NAMED_MAX).map((p) => `${p.table} ${p.pid}`);
  const more = partitions.length - names.length;
  return `${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
