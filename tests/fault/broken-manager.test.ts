import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { LmdbStore } from '../../src/store/lmdb-store.ts';
import { whatIsWrong } from '../support/checks.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { untilLogged } from '../support/node-log.ts';
import { hold, untilEnded, untilStep } from '../support/operations.ts';

/**
 * A manager that cannot go on is replaced in its own process, and the operations that it had under way end.
 */

let cluster: LocalCluster;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  for (let started = 0; started < 2; started++) await cluster.addNode();
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY)', { partitions: 2, replicas: 2 });
});
afterAll(() => cluster?.close());

/** As another process writes it that takes the store for its own. */
async function writeRecord(id: number): Promise<void> {
  const store = await LmdbStore.open(join(cluster.node(1).store, 'meta'));
  const { key, value } = must(await store.get(`/op/${String(id).padStart(10, '0')}`), `operation ${id}`);
  await store.txn({ when: [], write: [{ put: key, value }] });
  await store.close();
}

test('somebody writes the record of an operation that runs: another manager goes on with it', async () => {
  const [row] = (await cluster.admin({ do: 'partition-ls', table: 'acct' })).filter((r) => r.role === 'leader');
  const { tid, pid, node: from } = must(row, 'a leader');
  const holder = await hold(cluster.node(from).postgresPort, `SELECT count(*) FROM tide_hinge.t${tid}_p${pid}`);
  const { operations } = await cluster.admin({ do: 'partition-change-leader', table: 'acct', pid, to: 'auto' });
  const id = must(operations[0], 'operation');
  await untilStep(cluster, id, 'swing');
  await writeRecord(id);
  await untilLogged(cluster.node(1).store, (l) => l.msg === 'the manager cannot go on' && l.operation === id);
  await holder.end();
  expect((await untilEnded(cluster, id)).status).toBe('done');
  expect(await whatIsWrong(cluster, [1, 2])).toEqual([]);
});
