import { CITIES_SQL, type CityBook, loadCities, readCities } from '../src/demo/cities.ts';
import { TRAFFIC_SQL } from '../src/demo/traffic.ts';
import { LocalCluster } from '../src/local/local-cluster.ts';

/** Starts a cluster, runs `body`, and leaves nothing behind. */
export async function onCluster<T>(nodes: number, body: (cluster: LocalCluster) => Promise<T>): Promise<T> {
  const cluster = await LocalCluster.create();
  try {
    for (let started = 0; started < nodes; started++) await cluster.addNode();
    return await body(cluster);
  } finally {
    await cluster.close();
  }
}

/** The demo's tables and data, on as many replicas as asked for. */
export async function loadDemoData(cluster: LocalCluster, replicas: number): Promise<CityBook> {
  for (const [sql, partitions] of [
    [CITIES_SQL, 8],
    [TRAFFIC_SQL, 4],
  ] as const) {
    const { operation } = await cluster.admin({ do: 'table-create', sql, partitions, replicas });
    await cluster.waitForOperation(operation);
  }
  const book = await readCities();
  const client = await cluster.sql(firstNode(cluster)).connect();
  await loadCities(client, book, () => {}).finally(() => client.release());
  return book;
}

export function firstNode(cluster: LocalCluster): number {
  const [first] = cluster.nodes;
  if (!first) throw new Error('the cluster has no node');
  return first.id;
}
