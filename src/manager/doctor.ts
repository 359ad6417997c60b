import type { DoctorResult, DoctorRow } from '../api/results.ts';
import type { ClusterView, NodeId } from '../catalog/model.ts';
import { foreignServerName, partitionTable, publicationName, subscriptionName } from '../catalog/names.ts';
import { allPartitions, connectedNodes, replicaOn } from '../catalog/view.ts';
import { messageOf } from '../core/errors.ts';
import type { Claim } from '../operations/operation.ts';
import type { Inspector, Inventory, InventoryKind } from './ports.ts';

/** In this order a removal never meets something that still depends on it. */
const KINDS: readonly InventoryKind[] = [
  'subscription',
  'published-table',
  'publication',
  'slot',
  'origin',
  'parent',
  'foreign-table',
  'replica-table',
  'server',
];

const WHY: Record<InventoryKind, string> = {
  publication: 'no partition is shared with that node',
  'published-table': 'the partition has no replica on that node',
  subscription: 'no partition is shared with that node',
  slot: 'no subscription reads it: it would keep WAL for ever',
  origin: 'its subscription is gone',
  'replica-table': 'the catalog has no such replica here',
  'foreign-table': 'no hinge leads through it',
  server: 'no such node is in the cluster',
  parent: 'the catalog has no such table',
};

/**
 * Names everything of pgtide's kind on a node that neither the catalog nor a running operation owns. Pure;
 * `claims` are those of operations that have not ended.
 */
export function leftovers(
  view: ClusterView,
  node: NodeId,
  inventory: Inventory,
  claims: readonly Claim[],
): DoctorRow[] {
  const owned = ownedOn(view, node);
  for (const claim of claims.filter((c) => c.node === node)) {
    owned['replica-table'].add(claim.name);
    owned['foreign-table'].add(claim.name);
    owned.server.add(claim.name);
  }
  return KINDS.flatMap((kind) =>
    inventory[kind]
      .filter((name) => !owned[kind].has(name))
      .map((name) => ({ node, kind, name, why: WHY[kind], fixed: false })),
  );
}

function ownedOn(view: ClusterView, node: NodeId): Record<InventoryKind, Set<string>> {
  const owned = Object.fromEntries(KINDS.map((k) => [k, new Set<string>()])) as Record<InventoryKind, Set<string>>;
  for (const other of connectedNodes(view)) if (other.id !== node) owned.server.add(foreignServerName(other.id));
  for (const table of view.tables.values()) owned.parent.add(String(table.tid));
  for (const { partition } of allPartitions(view)) {
    if (!replicaOn(partition, node)) continue;
    const name = partitionTable(partition.tid, partition.pid);
    owned['replica-table'].add(name);
    for (const other of partition.replicas.filter((r) => r.node !== node)) {
      owned.publication.add(publicationName(other.node));
      owned.subscription.add(subscriptionName(other.node, node));
      owned.slot.add(subscriptionName(node, other.node));
      owned['published-table'].add(`${publicationName(other.node)}.${name}`);
    }
  }
  return owned;
}

/**
 * Looks at every node, and removes what nobody owns where `fix` is asked for. A node that does not answer is
 * said, not guessed. `view` and `claims` are asked again before every removal: looking may take long, and
 * what an operation has claimed meanwhile is no leftover.
 */
export async function examine(
  view: () => ClusterView,
  inspector: Inspector,
  claims: () => readonly Claim[],
  fix: boolean,
): Promise<DoctorResult> {
  const result: DoctorResult = { findings: [], unreachable: [] };
  for (const node of connectedNodes(view())) {
    try {
      const inventory = await inspector.inventory(node.id);
      const found = () => leftovers(view(), node.id, inventory, claims());
      for (const row of found()) {
        if (!found().some((r) => r.kind === row.kind && r.name === row.name)) continue;
        if (fix) await fixOne(inspector, row);
        result.findings.push(row);
      }
    } catch (error) {
      result.unreachable.push({ node: node.id, why: messageOf(error) });
    }
  }
  return result;
}

async function fixOne(inspector: Inspector, row: DoctorRow): Promise<void> {
  try {
    await inspector.remove(row.node, row.kind as InventoryKind, row.name);
    row.fixed = true;
  } catch (error) {
    row.why = `${row.why}; it could not be removed: ${messageOf(error)}`;
  }
}
