import type pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { createTable, LocalCluster, waitForAll } from '../support/cluster.ts';
import { hold } from '../support/operations.ts';
import {
  eventually,
  expectReplicasEqual,
  expectSettled,
  holdersOf,
  keyIn,
  leaderOf,
  startNodes,
} from './support/proof.ts';
import { login, routed, wasRouted } from './support/routed.ts';

/** The leader dies under statements that a gateway has it execute. */

const PARTITIONS = 4;
const CLIENTS = 4;
const ROWS = 8;
const HOME = 1;

let cluster: LocalCluster;
let leader: number;
/** The partition of all rows, which another node leads. */
let pid: number;
let keys: number[];

beforeAll(async () => {
  cluster = await LocalCluster.create();
  await startNodes(cluster, 3);
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  const sql = 'CREATE TABLE counted (id bigint PRIMARY KEY, n int NOT NULL DEFAULT 0)';
  const { tid } = await createTable(cluster, sql, { partitions: PARTITIONS, replicas: 3 });
  const holders = await Promise.all(Array.from({ length: PARTITIONS }, (_, pid) => holdersOf(cluster, 'counted', pid)));
  pid = holders.findIndex((h) => h.leader !== HOME);
  leader = must(holders[pid]?.leader, 'a leader elsewhere');
  keys = [];
  while (keys.length < ROWS)
    keys.push(await keyIn(cluster, { tid, table: 'counted' }, PARTITIONS, pid, (keys.at(-1) ?? 0) + 1));
  for (const key of keys) await cluster.sql(HOME).query('INSERT INTO counted (id) VALUES ($1)', [key]);
});
afterAll(() => cluster?.close());

const codeOf = (error: unknown) => (error as { code?: string }).code ?? String(error);

test('a write that it was at is told as not known, and what comes after it goes on', async () => {
  const client = await login(cluster, HOME);
  const [key = 0] = keys;
  await routed(cluster, client, 'UPDATE counted SET MARK n = n WHERE id = $1', [key]);
  const { postgresPort } = cluster.node(leader);
  const holder = await hold(postgresPort, `UPDATE counted SET n = 0 WHERE id = ${key}`, 'tide');
  const waits = client.query({ text: 'UPDATE counted SET /* dies */ n = n + 1 WHERE id = $1', values: [key] });
  const told = waits.catch((error: unknown) => error);
  await eventually(async () => expect(await wasRouted(cluster, '/* dies */')).toBe(true));
  cluster.node(leader).killPostgres();
  expect(await told).toMatchObject({ code: '08006', message: expect.stringContaining('is not known') });
  await holder.end().catch(() => {});
  await eventually(async () => {
    const read = await client.query({ text: 'SELECT n FROM counted WHERE id = $1', values: [key] });
    expect(read.rows).toEqual([{ n: 0 }]);
  }, 60_000);
  await client.end();
});

test('under load: no write is lost that was acknowledged, and none is done twice', async () => {
  // Others may lead since, and who has died may not be back.
  await expectSettled(
    cluster,
    cluster.nodes.map((node) => node.id),
  );
  const holders = await holdersOf(cluster, 'counted', pid);
  if (holders.leader === HOME) {
    const { operations } = await cluster.admin({ do: 'partition-change-leader', table: 'counted', pid, to: 'auto' });
    await waitForAll(cluster, operations);
  }
  leader = await leaderOf(cluster, 'counted', pid);
  expect(leader).not.toBe(HOME);
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => login(cluster, HOME)));
  await routed(cluster, must(clients[0], 'client'), 'UPDATE counted SET MARK n = n WHERE id = $1', [keys[0]]);
  const [before] = (await cluster.sql(HOME).query('SELECT sum(n)::int AS n FROM counted')).rows;
  let [acknowledged, unknown, isOver] = [0, 0, false];
  const codes = new Set<string>();
  const load = async (client: pg.Client, at: number) => {
    for (let i = at; !isOver; i++) {
      const update = { name: 'add', text: 'UPDATE counted SET n = n + 1 WHERE id = $1', values: [keys[i % ROWS]] };
      await client.query(update).then(
        ({ rowCount }) => {
          acknowledged += must(rowCount, 'count');
        },
        (error) => {
          codes.add(codeOf(error));
          unknown += 1;
        },
      );
    }
  };
  const loads = clients.map(load);
  await eventually(async () => expect(acknowledged).toBeGreaterThan(200));
  cluster.node(leader).killPostgres();
  const atKill = acknowledged;
  await eventually(async () => expect(acknowledged).toBeGreaterThan(atKill + 400), 60_000);
  isOver = true;
  await Promise.all(loads);
  expect([...codes].filter((code) => !/^(08|57P|40001|TD|HV|55|25)/.test(code))).toEqual([]);
  expect(unknown).toBeGreaterThan(0);
  const [after] = (await cluster.sql(HOME).query('SELECT sum(n)::int AS n FROM counted')).rows;
  expect(after.n - before.n).toBeGreaterThanOrEqual(acknowledged);
  expect(after.n - before.n).toBeLessThanOrEqual(acknowledged + unknown);
  await Promise.all(clients.map((client) => client.end()));
  await expectReplicasEqual(cluster);
});
