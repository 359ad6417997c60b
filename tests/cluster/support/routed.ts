import pg from 'pg';
import { expect } from 'vitest';
import type { LocalCluster } from '../../support/cluster.ts';

/** A client's session through a node, as an application has it. */
export async function login(cluster: LocalCluster, node: number): Promise<pg.Client> {
  const [host = '', port] = cluster.node(node).address.split(':');
  const client = new pg.Client({ host, port: Number(port), user: 'tide', database: 'tide' });
  client.on('error', () => {});
  await client.connect();
  return client;
}

/** Whether a gateway has had a server execute a statement with this text in it. */
export async function wasRouted(cluster: LocalCluster, part: string): Promise<boolean> {
  const counts = await Promise.all(
    cluster.nodes.map(async ({ id }) => {
      const { rowCount } = await cluster
        .manager(id)
        .query(`SELECT FROM pg_stat_activity WHERE application_name = 'tide gateway' AND strpos(query, $1) > 0`, [
          part,
        ]);
      return rowCount ?? 0;
    }),
  );
  return counts.some((count) => count > 0);
}

let lastMark = 0;

/**
 * Executes a statement until one of its executions was routed, and gives the last result. A statement has a
 * place for a mark: SELECT MARK … .
 */
export async function routed(
  cluster: LocalCluster,
  client: pg.Client,
  text: string,
  values: readonly unknown[] = [],
): Promise<pg.QueryResult> {
  const mark = `/* mark ${++lastMark} */`;
  const untilMs = performance.now() + 60_000;
  for (;;) {
    const result = await client.query({ text: text.replace('MARK', mark), values: [...values] });
    if (await wasRouted(cluster, mark)) return result;
    expect(performance.now(), `${text} is executed where its rows are`).toBeLessThan(untilMs);
  }
}
