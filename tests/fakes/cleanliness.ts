import type { Partition } from '../../src/catalog/model.ts';
import { partitionTable } from '../../src/catalog/names.ts';
import { lostOn, sameQuorum, wantedQuorum } from '../../src/catalog/quorum.ts';
import { allPartitions, connectedNodes, partitionKey, replicaOn } from '../../src/catalog/view.ts';
import { leftovers } from '../../src/manager/doctor.ts';
import type { World } from './world.ts';

/** Everything that is not as it has to be when no operation runs; empty: the world is clean. */
export function faultsOf(world: Pick<World, 'view' | 'cluster'>): string[] {
  const { view, cluster } = world;
  const faults = [...new Set(cluster.problems)];
  // Until it is copied again, what a stale replica would send carries nothing and stays as it is.
  const stale = [...allPartitions(view)]
    .filter(({ partition }) => partition.replicas.some((r) => r.state === 'stale'))
    .map(({ partition }) => partitionTable(partition.tid, partition.pid));
  for (const node of connectedNodes(view).filter((n) => cluster.at(n.id).serves)) {
    for (const row of leftovers(view, node.id, cluster.inventory(node.id), [])) {
      if (stale.some((name) => row.kind === 'published-table' && row.name.endsWith(`.${name}`))) continue;
      faults.push(`n${row.node}: leftover ${row.kind} ${row.name}`);
    }
    for (const slot of cluster.at(node.id).copySlots)
      faults.push(`n${node.id} keeps WAL for the slot ${slot} of no copy`);
    for (const table of view.tables.values()) {
      if (!cluster.at(node.id).parents.has(table.tid)) faults.push(`n${node.id} lacks table ${table.name}`);
    }
  }
  for (const { id } of connectedNodes(view).filter((n) => cluster.at(n.id).serves)) {
    const alive = (n: number) => cluster.at(n).alive;
    const lost = lostOn(view, id, alive);
    const names = lost.map((p) => partitionTable(p.tid, p.pid)).sort();
    const { quorum, refused } = cluster.at(id);
    if ([...refused].sort().join() !== names.join()) faults.push(`n${id} refuses ${[...refused]}, not ${names}`);
    const wanted = wantedQuorum(view, id, alive, [], new Set(lost.map((p) => partitionKey(p.tid, p.pid))));
    if (!sameQuorum(quorum, wanted))
      faults.push(`commits at n${id} wait for ${JSON.stringify(quorum)}, not ${JSON.stringify(wanted)}`);
  }
  for (const { table, partition } of allPartitions(view)) {
    if (table.state !== 'ready') faults.push(`table ${table.name} is ${table.state}`);
    faults.push(...replicaFaults(world, partition));
    if (cluster.at(partition.leader).serves) faults.push(...wayFaults(world, partition));
  }
  return faults;
}

/** Every replica counts, holds all acknowledged rows, the last one last, and is guarded unless it leads. */
function replicaFaults({ cluster }: Pick<World, 'cluster'>, partition: Partition): string[] {
  const name = partitionTable(partition.tid, partition.pid);
  const faults: string[] = [];
  for (const { node, state } of partition.replicas) {
    const here = `${name} on n${node}`;
    const leads = partition.leader === node;
    // What is down, or lacks rows, is made good when it is back.
    if (state === 'stale' || !cluster.at(node).serves) continue;
    if (state !== 'ready') faults.push(`${here} is ${state}`);
    const replica = cluster.at(node).replicas.get(name);
    if (!replica) {
      faults.push(`${here} has no rows`);
      continue;
    }
    const leader = cluster.at(partition.leader).replicas.get(name);
    if (replica.guarded === leads)
      faults.push(`${here} ${leads ? 'leads and is guarded' : 'follows and is not guarded'}`);
    if (!cluster.at(partition.leader).serves) continue;
    if (replica.rows.size !== (cluster.acknowledged.get(name) ?? 0)) {
      faults.push(`${here} has ${replica.rows.size} of ${cluster.acknowledged.get(name)} acknowledged rows`);
    }
    if (replica.last !== leader?.last) faults.push(`${here} has applied rows out of order`);
    faults.push(...flowFaults(cluster, partition, node));
  }
  return faults;
}

/** What a ready replica writes reaches every other one, if it should lead one day. */
function flowFaults(cluster: World['cluster'], partition: Partition, node: number): string[] {
  const name = partitionTable(partition.tid, partition.pid);
  return partition.replicas
    .filter((r) => r.node !== node && r.state === 'ready' && cluster.at(r.node).serves)
    .flatMap((other) => {
      const sync = cluster.at(other.node).subscriptions.get(node)?.tables.get(name);
      const flows = sync?.copiedAtMs === null && cluster.at(node).publications.get(other.node)?.has(name);
      return flows ? [] : [`${name} does not flow from n${node} to n${other.node}`];
    });
}

/**
 * Statements on every node reach the leader; only the leader's hinge leads to rows of its own, and nothing is
 * forwarded.
 */
function wayFaults({ cluster, view }: Pick<World, 'view' | 'cluster'>, partition: Partition): string[] {
  const name = partitionTable(partition.tid, partition.pid);
  return connectedNodes(view)
    .filter((n) => cluster.at(n.id).serves)
    .flatMap(({ id }) => {
      const hinge = cluster.at(id).hinges.get(name);
      if (hinge?.kind === 'forward') return [`n${id}: ${name} is still forwarded`];
      if (replicaOn(partition, id) === undefined && hinge?.kind === 'local')
        return [`n${id}: ${name} leads to rows that do not count`];
      const reached = cluster.follow(id, name);
      if (typeof reached === 'object' && 'node' in reached && reached.node === partition.leader) return [];
      return [`${name} through n${id} reaches ${JSON.stringify(reached)}, not n${partition.leader}`];
    });
}

/** Where everything stands: a cancelled operation has to bring it back. Epochs may rise. */
export function placementOf(world: World): unknown {
  const { nodes, tables } = world.view;
  return {
    nodes: [...nodes.values()].map((n) => `n${n.id} ${n.state}${n.draining ? ' draining' : ''}`),
    partitions: [...tables.values()].map((t) =>
      t.partitions.map(
        (p) => `${partitionTable(p.tid, p.pid)}: ${p.leader} of ${p.replicas.map((r) => `${r.node} ${r.state}`)}`,
      ),
    ),
  };
}
