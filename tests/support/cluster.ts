import { LocalCluster } from '../../src/local/local-cluster.ts';

export { LocalCluster } from '../../src/local/local-cluster.ts';
export type { LocalNode } from '../../src/local/local-node.ts';

/** Runs `body` on a fresh cluster of `count` nodes and leaves nothing behind, whatever happens. */
export async function withCluster(count: number, body: (cluster: LocalCluster) => Promise<void>): Promise<void> {
  const cluster = await LocalCluster.create();
  try {
    for (let started = 0; started < count; started++) await cluster.addNode();
    await body(cluster);
  } finally {
    await cluster.close();
  }
}

/** Creates a distributed table and waits until it stands on every node. */
export async function createTable(
  cluster: LocalCluster,
  sql: string,
  options: { partitions?: number; replicas?: number; distributeBy?: string } = {},
): Promise<{ tid: number; table: string }> {
  const { operation, tid, table } = await cluster.admin({ do: 'table-create', sql, ...options });
  await cluster.waitForOperation(operation);
  return { tid, table };
}

/** Sends a command that starts work, and waits for the whole of it. */
export async function waitForAll(cluster: LocalCluster, operations: readonly (number | null)[]): Promise<void> {
  for (const id of operations) if (id !== null) await cluster.waitForOperation(id);
}
