import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { partitionTable } from '../../src/catalog/names.ts';
import { must } from '../../src/core/assert.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { startNodes } from './support/proof.ts';

/**
 * What workers of replication fail at is read from PostgreSQL's log, and clients have a say in what stands
 * there.
 */

let cluster: LocalCluster;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  await startNodes(cluster, 2);
});
afterAll(() => cluster?.close());

it('what functions of clients write from a process without a client is nobody’s failure', async () => {
  const { tid } = await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY)', {
    partitions: 2,
    replicas: 2,
  });
  const rows = await cluster.admin({ do: 'partition-ls', table: 'acct' });
  const { node, pid } = must(
    rows.find((r) => r.role === 'follower'),
    'a follower',
  );
  const place = `processing remote data for replication origin "x" during message type "INSERT" for replication target relation "tide_data.${partitionTable(tid, pid)}" in transaction 77`;
  const client = cluster.sql(node);
  await client.query(`CREATE FUNCTION forges() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS $f$ BEGIN
    RAISE LOG 'logical replication apply worker for subscription "tide_${3 - node}_${node}" has started';
    EXECUTE 'DO $d$ BEGIN RAISE ''forged''; END $d$ -- ${place}'; RETURN 1; END $f$`);
  // As often, and for as long, as makes a replica be given up.
  for (let times = 0; times < 30; times++) {
    const session = await client.connect();
    try {
      await session.query('SET debug_parallel_query = on');
      await expect(session.query('SELECT forges()')).rejects.toThrow('forged');
    } finally {
      session.release(true);
    }
    await sleep(200);
  }
  const log = await readFile(join(cluster.node(node).store, 'logs', 'postgresql.log'), 'utf8');
  expect(log.match(/\] (?:parallel worker )?ERROR: {2}forged/g)).toHaveLength(30);
  const events = await cluster.admin({ do: 'events' });
  expect(events.filter((e) => e.kind === 'apply-failed').map((e) => e.text)).toEqual([]);
  expect((await cluster.admin({ do: 'node-status' })).map((n) => n.replication)).toEqual([null, null]);
});
