import { type ChildProcess, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { ask } from '../../src/api/http-client.ts';
import type { BeatReport } from '../../src/api/membership.ts';
import { must } from '../../src/core/assert.ts';
import { freePorts } from '../../src/local/free-ports.ts';
import { createTable, LocalCluster } from '../support/cluster.ts';
import { ETCD, EtcdCluster } from '../support/etcd.ts';
import { played } from '../support/matrix.ts';
import { untilLogged } from '../support/node-log.ts';
import { LOAD_TABLE, Load, PARTITIONS } from './support/load.ts';
import { expectSettled } from './support/settled.ts';
import { launch, tide } from './support/start.ts';

/**
 * A store is copied, as a backup or a machine's image is, and the copy is started beside its original, or in
 * its place.
 */

const NODES = [1, 2, 3];
/**
 * A start that is refused because somebody answers has not waited for anybody's silence, nor started a
 * PostgreSQL.
 */
const REFUSED_MS = 29_000;
const LIVE_MS = 60_000;

let etcd: EtcdCluster | null = null;
let cluster: LocalCluster;
let load: Load;
let copies = 0;
let twin: ChildProcess | null = null;

/** As it is, while whatever runs on it goes on: files that go meanwhile are no failure. */
function copyOf(node: number): string {
  const copy = join(cluster.dir, `copy-${++copies}`);
  const { status, stderr } = spawnSync('cp', ['-a', cluster.node(node).store, copy], { encoding: 'utf8' });
  const failed = stderr.split('\n').filter((line) => line !== '' && !/No such file|vanished/.test(line));
  expect(failed, `cp ended with ${status}`).toEqual([]);
  return copy;
}

/** How the copy is started, at a place of its own. */
async function startOf(copy: string): Promise<{ args: string[]; address: string }> {
  const [listen, http, postgres] = await freePorts(3);
  const address = `127.0.0.1:${listen}`;
  const own = [`--listen-addr=${address}`, `--http-addr=127.0.0.1:${http}`, `--postgres-port=${postgres}`];
  return { args: ['start', `--store=${copy}`, '--insecure', ...own], address };
}

/** Another machine has no such process; on this one the lock says that it runs. */
const asElsewhere = (copy: string) => rm(join(copy, 'node.lock'));
/** A port that a store has once noted is that of its PostgreSQL; on one machine two cannot have it. */
async function elsewhereToo(copy: string, args: readonly string[]): Promise<void> {
  const port = Number(args.find((arg) => arg.startsWith('--postgres-port='))?.split('=')[1]);
  const file = join(copy, 'node.json');
  const identity = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...identity, postgresPort: port }));
}

function outputOf(child: ChildProcess): () => string {
  let text = '';
  child.stderr?.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  return () => text;
}

const postgresLog = (store: string) => readFileSync(join(store, 'logs', 'postgresql.log'), 'utf8');

async function managersNode(): Promise<number> {
  const { managers } = await cluster.admin({ do: 'manager-ls' });
  const leader = managers.find((m) => m.role === 'leader');
  return must(leader, 'manager').node;
}

async function addressOf(node: number): Promise<string | undefined> {
  return (await cluster.admin({ do: 'node-status' })).find((n) => n.id === node)?.address;
}

async function refusesTheCopyOf(node: number): Promise<void> {
  load.start(NODES);
  const before = load.acknowledged;
  const copy = copyOf(node);
  const { args, address } = await startOf(copy);
  const here = await tide(args);
  expect(here.stderr).toMatch(/STORE_IN_USE|is in use by another node process/);
  await asElsewhere(copy);
  const logged = postgresLog(copy);
  const beganMs = performance.now();
  const { status, stderr } = await tide(args);
  expect(performance.now() - beganMs).toBeLessThan(REFUSED_MS);
  expect(status).not.toBe(0);
  expect(stderr).toContain(`node ${node} runs already, at ${cluster.node(node).address}`);
  // Its PostgreSQL was not started.
  expect(postgresLog(copy)).toBe(logged);
  // Both sides say so.
  await untilLogged(copy, (line) => line.code === 'NODE_TWICE');
  await untilLogged(
    cluster.node(node).store,
    (line) => line.msg.includes('started a second time') && line.address === address,
  );
  const events = await cluster.admin({ do: 'events', after: 0, limit: 10_000 });
  const told = events.filter((e) => e.kind === 'node-twice' && e.text.includes(address));
  expect(told).toMatchObject([{ node }]);
  expect((await cluster.admin({ do: 'doctor' })).twins).toContainEqual({ node, address });
  // And the first one is where it was.
  expect(await addressOf(node)).toBe(cluster.node(node).address);
  await expect.poll(() => load.acknowledged - before, { timeout: LIVE_MS }).toBeGreaterThan(200);
  await settled();
}

const settled = () => expectSettled(cluster, load, NODES);

function theCopiedStore(flags: () => string[]): void {
  beforeAll(async () => {
    cluster = await LocalCluster.create();
    for (const _ of NODES) await cluster.addNode({ flags: flags() });
    await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
    await createTable(cluster, LOAD_TABLE, { partitions: PARTITIONS, replicas: 2 });
    load = await Load.prepare(cluster, 1);
  });

  afterEach(async () => {
    if (twin?.exitCode === null && twin.signalCode === null) {
      twin.kill('SIGTERM');
      await once(twin, 'exit');
    }
    twin = null;
  });

  afterAll(async () => {
    await load?.close();
    await cluster?.close();
  });

  test('a copy of a running node is refused, before its PostgreSQL starts', () => refusesTheCopyOf(3));

  test('so is one of the node with the manager', async () => refusesTheCopyOf(await managersNode()));

  test('a node that is killed again and again is itself every time', async () => {
    const manager = await managersNode();
    const kills = [...played([3, 3, 3, 3, 3], (_, index) => index < 2), manager];
    load.expect({ through: kills, pids: [0, 1, 2, 3, 4, 5, 6, 7] });
    load.start(NODES);
    for (const victim of kills) {
      await cluster.node(victim).kill();
      await cluster.node(victim).restart();
    }
    const events = await cluster.admin({ do: 'events', after: 0, limit: 10_000 });
    const addresses = NODES.map((node) => cluster.node(node).address);
    expect(
      events.filter((e) => e.kind === 'node-twice' && addresses.some((a) => e.text.includes(`, at ${a},`))),
    ).toEqual([]);
    await settled();
  });

  test('a beat of another cluster moves nobody', async () => {
    const { address } = cluster.node(await managersNode());
    const own = cluster.node(2);
    const facts = {
      ...{ api: 2, address: '127.0.0.1:1', httpAddress: '127.0.0.1:2', postgresHost: '127.0.0.1', postgresPort: 3 },
      ...{ locality: [], attrs: [], build: '0', startedAt: '', startMode: 'start' },
    };
    const said = { postgresUp: true, fenced: false, leased: false, diskTotalBytes: 1, diskFreeBytes: 1 };
    const beat = { node: 2, clusterId: 'another', ...said, facts } as unknown as BeatReport;
    await expect(ask(address, 'beat', beat)).rejects.toMatchObject({ code: 'CLUSTER_MISMATCH' });
    expect(await addressOf(2)).toBe(own.address);
  });

  test('a copy that was started in place of its original is the node; the original, started after that, is refused', async () => {
    const manager = await managersNode();
    const node = must(
      NODES.find((n) => n !== manager && n !== 1),
      'a node',
    );
    await cluster.node(node).stop();
    const { args, address } = await startOf(copyOf(node));
    twin = launch(args);
    await expect.poll(() => addressOf(node).catch(() => null), { timeout: LIVE_MS, interval: 200 }).toBe(address);
    const isLive = async () => (await cluster.admin({ do: 'node-status' })).find((n) => n.id === node)?.isLive;
    await expect.poll(isLive, { timeout: LIVE_MS, interval: 200 }).toBe(true);
    await expect(cluster.node(node).restart()).rejects.toThrow(`node ${node} runs already, at ${address}`);
    expect(await addressOf(node)).toBe(address);
    expect(await isLive()).toBe(true);
    twin.kill('SIGTERM');
    await once(twin, 'exit');
    await expect(cluster.node(node).restart()).rejects.toThrow(`an older copy of node ${node}'s`);
  });
}

describe('with the embedded meta store', () => {
  theCopiedStore(() => []);

  test('a frozen node that a copy has replaced, on the word of the operator, gives up when it wakes', async () => {
    const node = 3;
    const copy = copyOf(node);
    await asElsewhere(copy);
    const { args, address } = await startOf(copy);
    await elsewhereToo(copy, args);
    await cluster.node(node).kill('SIGSTOP');
    try {
      const isLive = async () => (await cluster.admin({ do: 'node-status' })).find((n) => n.id === node)?.isLive;
      await expect.poll(isLive, { timeout: LIVE_MS, interval: 200 }).toBe(false);
      twin = launch(args);
      const said = outputOf(twin);
      await expect.poll(said, { timeout: LIVE_MS }).toContain('nothing proves that its PostgreSQL is down');
      expect(await addressOf(node)).toBe(cluster.node(node).address);
      await cluster.admin({ do: 'node-offline', node });
      await expect.poll(() => addressOf(node), { timeout: LIVE_MS, interval: 200 }).toBe(address);
    } finally {
      await cluster.node(node).kill('SIGCONT');
    }
    await expect.poll(() => cluster.node(node).isRunning, { timeout: LIVE_MS }).toBe(false);
    expect(cluster.node(node).output).toContain(`node ${node} runs already, at ${address}`);
    expect(cluster.node(node).postgresProcessId).toBeNull();
    expect(await addressOf(node)).toBe(address);
  });
});

describe.skipIf(ETCD === null).each(played(['etcd'], () => false))('with %s', () => {
  beforeAll(async () => {
    etcd = await EtcdCluster.start(1);
  });
  afterAll(() => etcd?.close());
  theCopiedStore(() => [`--meta=${must(etcd, 'etcd').url('/copies')}`]);
});
