import { afterAll, beforeAll, test } from 'vitest';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { ServerConnection } from '../../src/gateway/servers/server-connection.ts';
import { HOME_QUESTION, SETTINGS_QUESTION } from '../../src/gateway/servers/home-facts.ts';

let cluster: LocalCluster;
beforeAll(async () => {
  cluster = await LocalCluster.create();
  await cluster.addNode();
  await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY, v int, s text)', { partitions: 2, replicas: 1 });
});
afterAll(() => cluster?.close());
test('try', async () => {
  const p = new Map([['user', 'tide'], ['database', 'tide'], ['client_encoding', 'UTF8'], ['application_name', 'x'], ['options', '-c plan_cache_mode=auto']]);
  for (const q of [SETTINGS_QUESTION, HOME_QUESTION]) {
    const got = await ServerConnection.open({ host: '127.0.0.1', port: cluster.node(1).postgresPort }, p, q).catch((e) => e);
    console.log(got.answer ?? got);
    got.connection?.close();
  }
});
