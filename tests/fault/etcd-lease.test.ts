import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { type LeaseNote, monotonicMs } from '../../src/node/node-lease.ts';
import { TIDE_PEER } from '../../src/postgres/config.ts';
import { whatIsWrong } from '../support/checks.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { ETCD, EtcdCluster } from '../support/etcd.ts';
import { untilEnded } from '../support/operations.ts';
import { LOAD_TABLE, Load, PARTITIONS } from './support/load.ts';

const NODES = [1, 2, 3];

let etcd: EtcdCluster;
let cluster: LocalCluster;
let load: Load;

const rows = (through: number) => cluster.admin({ do: 'partition-ls', table: 'load' }, { node: through });
const condition = async (node: number, through: number) =>
  (await cluster.admin({ do: 'node-status' }, { node: through })).find((n) => n.id === node)?.condition;

async function manager(): Promise<number> {
  const { managers } = await cluster.admin({ do: 'manager-ls' });
  return must(
    managers.find((m) => m.role === 'leader'),
    'leader',
  ).node;
}

async function underWay(): Promise<string[]> {
  const operations = await cluster.admin({ do: 'op-ls', all: true });
  const waiting = operations.flatMap((o) => (o.endedAt === null ? [`${o.kind} ${o.subject}`] : []));
  const copied = (await rows(1)).flatMap((r) =>
    r.state === 'ready' ? [] : [`${r.pid} on node ${r.node} is ${r.state}`],
  );
  return [...waiting, ...copied];
}

/** Writes and reads straight on one server without a pause, and remembers when each was last answered. */
class StaleClient {
  lastWriteMs = 0;
  lastReadMs = 0;
  writes = 0;
  reads = 0;
  #stopped = false;
  readonly #workers: Promise<void>[];

  constructor(port: number, table: string) {
    this.#workers = [
      this.#insist(port, `UPDATE ${table} SET padding = 'stale' WHERE id = (SELECT min(id) FROM ${table})`, () => {
        this.lastWriteMs = performance.now();
        this.writes += 1;
      }),
      this.#insist(port, `SELECT count(*) FROM ${table}`, () => {
        this.lastReadMs = performance.now();
        this.reads += 1;
      }),
    ];
  }

  async #insist(port: number, sql: string, answered: () => void): Promise<void> {
    while (!this.#stopped) {
      const client = new pg.Client({
        host: '127.0.0.1',
        port,
        user: TIDE_PEER,
        database: 'tide',
        query_timeout: 2_000,
      });
      client.on('error', () => {});
      try {
        await client.connect();
        while (!this.#stopped) {
          await client.query(sql);
          answered();
          await sleep(5);
        }
      } catch {
        await sleep(10);
      }
      await client.end().catch(() => {});
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#workers);
  }
}

/** Every node has taken a lease of the length that was set. */
async function leased(leastMs: number, mostMs = Number.POSITIVE_INFINITY): Promise<void> {
  const lefts = () =>
    NODES.map((n) => {
      const note = JSON.parse(readFileSync(`${cluster.node(n).store}/lease`, 'utf8')) as LeaseNote;
      return note.untilMs - monotonicMs();
    });
  await expect.poll(() => lefts().every((ms) => ms > leastMs && ms <= mostMs), { timeout: 10_000 }).toBe(true);
}

describe.skipIf(ETCD === null)('leases of nodes, and the way into etcd', () => {
  beforeAll(async () => {
    etcd = await EtcdCluster.start(1);
    cluster = await LocalCluster.create();
    for (const _ of NODES) await cluster.addNode();
    await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
    await createTable(cluster, LOAD_TABLE, { partitions: PARTITIONS, replicas: 2 });
    load = await Load.prepare(cluster, 1);
  });

  afterAll(async () => {
    await load?.close();
    await cluster?.close();
    await etcd?.close();
  });

  test('a running cluster goes over to etcd under load, with its operations, and remembers it', async () => {
    const before = load.acknowledged;
    load.start(NODES);
    const [row] = await rows(1);
    const { pid, node: from } = must(row, 'a replica');
    const holders = (await rows(1)).filter((r) => r.pid === pid).map((r) => r.node);
    const to = must(
      NODES.find((n) => !holders.includes(n)),
      'target',
    );
    const { operations } = await cluster.admin({ do: 'partition-migrate', table: 'load', pids: [pid], from, to });
    const id = must(operations[0], 'operation');
    const url = etcd.url('/cluster');
    expect(await cluster.admin({ do: 'meta-migrate', to: url }, { node: 2, timeoutMs: 60_000 })).toEqual({ meta: url });
    expect((await untilEnded(cluster, id)).status).toBe('done');
    await expect
      .poll(async () => (await cluster.admin({ do: 'manager-ls' })).managers.map((m) => m.role).sort(), {
        timeout: 15_000,
      })
      .toEqual(['leader', 'standby', 'standby']);
    await expect(cluster.admin({ do: 'meta-migrate', to: url })).rejects.toMatchObject({ code: 'META_SHARED' });
    await expect(cluster.admin({ do: 'meta-move', node: 2 })).rejects.toMatchObject({ code: 'META_SHARED' });
    // Its process may be away for longer than ten seconds here, and that is not what is tested.
    await cluster.admin({ do: 'setting-set', key: 'node.lease', value: '60' });
    await leased(40_000);
    // The old home starts again as one of several: without a flag, and its file is nobody's any more.
    load.expect({ through: [1], pids: [] });
    await cluster.node(1).kill();
    await cluster.node(1).restart();
    load.expect(null);
    expect((await cluster.admin({ do: 'manager-ls' }, { node: 1 })).meta).toBe(url);
    await load.untilAcknowledged(20);
    await load.stop();
    // Replicas that were left behind are being copied again.
    await expect.poll(underWay, { timeout: 60_000, interval: 300 }).toEqual([]);
    expect(await whatIsWrong(cluster, NODES)).toEqual([]);
    for (const node of NODES) expect(await load.verify(node)).toEqual([]);
    expect(load.failures).toEqual([]);
    expect(load.acknowledged - before).toBeGreaterThan(50);
  });

  test('a node whose process is frozen while its PostgreSQL runs on serves nobody when others lead in its place', async () => {
    await cluster.admin({ do: 'setting-set', key: 'node.lease', value: '6' });
    const managing = await manager();
    const victim = must(
      NODES.find((n) => n !== managing),
      'victim',
    );
    const through = must(
      NODES.find((n) => n !== victim),
      'another node',
    );
    const led = (await rows(through)).filter((r) => r.role === 'leader' && r.node === victim);
    const one = must(led[0], 'a partition that it leads');
    const others = NODES.filter((n) => n !== victim);
    await leased(0, 3_000);
    load.start(others);
    const stale = new StaleClient(cluster.node(victim).postgresPort, `tide_data.t${one.tid}_p${one.pid}`);
    await expect.poll(() => Math.min(stale.writes, stale.reads), { timeout: 5_000 }).toBeGreaterThan(10);
    load.expect({ through: [], pids: led.map((r) => r.pid) });
    const frozenMs = performance.now();
    await cluster.node(victim).kill('SIGSTOP');
    const leads = async () => (await rows(through)).filter((r) => r.role === 'leader' && r.node === victim).length;
    await expect.poll(leads, { timeout: 40_000, interval: 20 }).toBe(0);
    const leadsMs = performance.now();
    expect(await condition(victim, through)).toBe('out');
    const writes = stale.writes;
    await sleep(1_500);
    await stale.stop();
    process.stdout.write(
      `frozen node: last write ${Math.round(stale.lastWriteMs - frozenMs)} ms, last read ${Math.round(stale.lastReadMs - frozenMs)} ms, others lead ${Math.round(leadsMs - frozenMs)} ms after\n`,
    );
    // It went on for a while, and then neither a write nor a read was answered, well before anybody else led.
    expect(stale.lastReadMs).toBeGreaterThan(frozenMs + 1_000);
    expect(stale.lastReadMs).toBeLessThan(leadsMs);
    expect(stale.lastWriteMs).toBeLessThan(leadsMs);
    expect(stale.writes).toBe(writes);
    await cluster.node(victim).kill('SIGCONT');
    await expect.poll(() => condition(victim, through), { timeout: 40_000, interval: 200 }).toBe('live');
    load.expect(null);
    await load.untilAcknowledged(20);
    await load.stop();
    // Replicas that were left behind are being copied again.
    await expect.poll(underWay, { timeout: 60_000, interval: 300 }).toEqual([]);
    expect(await whatIsWrong(cluster, NODES)).toEqual([]);
    for (const node of NODES) expect(await load.verify(node)).toEqual([]);
    expect(load.failures).toEqual([]);
  });
});
