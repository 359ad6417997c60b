import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTable, LocalCluster } from '../support/cluster.ts';

let cluster: LocalCluster;
beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (let i = 0; i < 2; i++) await cluster.addNode();
  await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY, v int, s text)', { partitions: 8, replicas: 2 });
});
afterAll(() => cluster?.close());

test('try', async () => {
  const [host = '', port] = cluster.node(1).address.split(':');
  const c = new pg.Client({ host, port: Number(port), user: 'tide', database: 'tide' });
  await c.connect();
  for (let i = 0; i < 50; i++) await c.query({ name: 'ins', text: 'INSERT INTO acct VALUES ($1, $2, $3)', values: [i, 0, `row ${i}`] });
  const until = performance.now() + 3000;
  let n = 0;
  while (performance.now() < until) {
    const id = n % 50;
    const r = await c.query({ name: 'sel', text: 'SELECT * FROM acct WHERE id = $1', values: [id] });
    expect(r.rows).toHaveLength(1);
    expect(r.rows[0].s).toBe(`row ${id}`);
    await c.query({ name: 'upd', text: 'UPDATE acct SET v = v + 1 WHERE id = $1', values: [id] });
    await c.query('SELECT id, v FROM acct WHERE id = $1', [id]);
    n++;
  }
  const apps = async (node: number) => (await cluster.postgres(node).query(`select application_name, count(*)::int, max(query) q from pg_stat_activity where application_name like '%gateway%' group by 1`)).rows;
  console.log(n, JSON.stringify(await apps(1)), JSON.stringify(await apps(2)));
  const total = (await c.query('SELECT sum(v)::int AS v, count(*)::int AS n FROM acct')).rows[0];
  expect(total).toEqual({ v: n, n: 50 });
  const err = await c.query('SELECT id, v / 0 AS x FROM acct WHERE id = $1', [1]).catch((e) => e);
  console.log(err.code, err.message, err.position);
  await c.end(); console.log(cluster.node(1).output.slice(-3000));
});
