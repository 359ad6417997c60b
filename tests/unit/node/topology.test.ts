import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { topology } from '../../../src/api/http-client.ts';
import type { CatalogChange } from '../../../src/catalog/change.ts';
import { must } from '../../../src/core/assert.ts';
import { CatalogStore } from '../../../src/manager/catalog-store.ts';
import { createHttp, type HttpPorts } from '../../../src/node/http.ts';
import { TopologyFeed } from '../../../src/node/topology-feed.ts';
import { followTopology } from '../../../src/node/topology-follower.ts';
import { type Topology, topologyOf } from '../../../src/routing/topology.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';
import { nodeRecord, tableRecord } from '../../fakes/records.ts';
import { TopologyWatch } from '../../support/topology-watch.ts';
import { factsOf, startedManager } from '../manager/support/started.ts';

/**
 * Three nodes as the feed knows them: real requests between them, a catalog in memory that one of them has.
 */

const CLUSTER = 'test';
const NOW = new AbortController().signal;

interface TestNode {
  app: FastifyInstance;
  feed: TopologyFeed;
  address: string;
  stop(): Promise<void>;
}

let nodes: TestNode[];
let watches: TopologyWatch[];
/** Index of the node that manages. */
let managing: number | null;
let store: MemoryStore;
let catalog: CatalogStore;
/** Every topology there was, by its revision. */
let history: Map<number, Topology>;

beforeEach(async () => {
  [watches, managing, history] = [[], null, new Map()];
  nodes = [];
  for (const at of [0, 1, 2]) nodes.push(await startNode(at));
  store = new MemoryStore();
  await CatalogStore.initialise(store, { clusterId: CLUSTER, startMode: 'start' });
  await manageAt(0);
});
afterEach(async () => {
  await Promise.all(watches.map((watch) => watch.end()));
  await Promise.all(nodes.map((node) => node.stop()));
});

async function startNode(at: number): Promise<TestNode> {
  const feed = new TopologyFeed();
  const app = createHttp({
    names: new Set(),
    topology: feed,
    manager: () => (managing === at ? {} : null),
    whoAmI: () => ({ nodeId: at + 1, manager: 'h:1' }),
    clusterId: () => CLUSTER,
    log: () => {},
  } as unknown as HttpPorts);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const end = followTopology(feed, {
    clusterId: CLUSTER,
    managesHere: () => managing === at,
    managerAddress: () => nodeAt(must(managing, 'a manager')).address,
  });
  const address = `127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  return { app, feed, address, stop: () => Promise.all([end(), app.close()]).then(() => {}) };
}

const nodeAt = (at: number) => must(nodes[at], 'node');

/** Opens the store there, and tells of it as `Manager.followTopology` does. */
async function manageAt(at: number): Promise<void> {
  const opened = await CatalogStore.open(store);
  const { feed } = nodeAt(at);
  const tell = (topology: Topology) => {
    history.set(topology.revision, topology);
    feed.publish(topology);
  };
  tell(topologyOf(opened.view));
  opened.onChange((view) => tell(topologyOf(view)));
  catalog = opened;
  managing = at;
}

function watch(at: number): TopologyWatch {
  const heard = new TopologyWatch(nodeAt(at).address, (topology) => {
    if (!topologyEqual(topology, history.get(topology.revision)))
      heard.broken.push(`revision ${topology.revision} is not what it was`);
  });
  watches.push(heard);
  return heard;
}

function topologyEqual(a: Topology, b: Topology | undefined): boolean {
  const plain = (t: Topology | undefined) => JSON.stringify(t && [t.revision, [...t.nodes], [...t.tables]]);
  return plain(a) === plain(b);
}

async function expectEverywhere(): Promise<void> {
  await vi.waitFor(
    () => {
      for (const w of watches) expect(w.topology).toEqual(topologyOf(catalog.view));
    },
    { timeout: 30_000, interval: 20 },
  );
  expect(watches.flatMap((w) => w.broken)).toEqual([]);
}

const put = (id: number): CatalogChange => ({ kind: 'node-added', node: nodeRecord(id) });

async function makeTable(): Promise<number> {
  const tid = await catalog.nextId('table');
  await catalog.commit([{ kind: 'table-added', table: tableRecord(tid, `t${tid}`, 2, [[1, 2], [2, 1]]) }]); // biome-ignore format: short
  await catalog.commit([{ kind: 'table-state', tid, state: 'ready' }]);
  return tid;
}

async function changeLeaders(tid: number, times: number): Promise<void> {
  for (let n = 0; n < times; n++) {
    await catalog.commit([{ kind: 'leader-changed', tid, pid: n % 2, leader: n % 4 < 2 ? 2 : 1 }]);
    if (n % 3 === 0) await sleep(3);
  }
}

/** The store goes to another node, as `tide meta move` has it: its own revisions begin anew. */
async function moveManager(to: number): Promise<void> {
  managing = null;
  const entries = await store.range('/');
  store = new MemoryStore();
  await store.txn({ when: [], write: entries.map(({ key, value }) => ({ put: key, value })) });
  await manageAt(to);
}

test('every change of node, table and leader arrives in order at every node, also across a change of manager', async () => {
  await catalog.commit([put(1), put(2)]);
  for (const at of [0, 1, 2]) watch(at);
  const tid = await makeTable();
  await changeLeaders(tid, 30);
  await expectEverywhere();

  await moveManager(1);
  await catalog.commit([put(3)]);
  await changeLeaders(tid, 30);
  await expectEverywhere();
});

test('the manager itself tells of its view', async () => {
  const { manager } = await startedManager();
  const heard: Topology[] = [];
  manager.followTopology((topology) => heard.push(topology));
  await manager.join(factsOf(2));
  expect([heard[0]?.nodes.size, heard.at(-1)?.nodes.get(1)?.address]).toEqual([0, 'h2:26257']);
  expect(heard.map((t) => t.revision)).toEqual(heard.map((_, at) => at));
  await manager.stop();
});

test('whoever has the newest waits for the next, and is told the difference', async () => {
  await catalog.commit([put(1), put(2)]);
  const { address, feed } = nodeAt(0);
  expect((await topology(address, null)).change).toMatchObject({ from: null, revision: 1 });
  const next = feed.poll(1, 60_000, NOW);
  await catalog.commit([{ kind: 'setting-changed', key: 'min_nodes', value: 1 }]);
  await catalog.commit([put(3)]);
  expect((await next)?.change).toMatchObject({ from: 1, revision: 3, nodes: [{ id: 3 }], tables: [] });
});

test('without a manager a node goes on with what it has, and says how old that is', async () => {
  await catalog.commit([put(1)]);
  const w = watch(2);
  await expectEverywhere();
  managing = null;
  await sleep(600);
  const { change, ageMs } = await topology(nodeAt(2).address, null);
  expect(change?.nodes).toHaveLength(1);
  expect(ageMs).toBeGreaterThan(500);
  await moveManager(0);
  await catalog.commit([put(2)]);
  await vi.waitFor(() => expect(w.topology?.nodes.size).toBe(2), { timeout: 20_000 });
  await vi.waitFor(async () => expect((await topology(nodeAt(2).address, null)).ageMs).toBeLessThan(3_000), {
    timeout: 20_000,
  });
});

test('a node that has heard nothing says so in the end', async () => {
  const feed = new TopologyFeed();
  expect(await feed.poll(null, 10, NOW)).toBeNull();
  feed.take({ ...EMPTY_CHANGE, from: 7, revision: 8 });
  expect(await feed.poll(null, 10, NOW)).toBeNull();
});

const EMPTY_CHANGE = { nodes: [], nodesGone: [], tables: [], tablesGone: [], partitions: [] };

test('whoever is ahead of a copy is not sent back by it, unless the manager has confirmed it meanwhile', async () => {
  const feed = new TopologyFeed();
  feed.publish({ revision: 5, nodes: new Map(), tables: new Map() });
  expect((await feed.poll(9, 10, NOW))?.change).toBeNull();
  const waiting = feed.poll(9, 200, NOW);
  await sleep(150);
  feed.confirm();
  expect((await waiting)?.change).toMatchObject({ from: null, revision: 5 });
  // So the copy of another node goes back, too.
  const copy = new TopologyFeed();
  copy.publish({ revision: 9, nodes: new Map(), tables: new Map() });
  copy.publish({ revision: 5, nodes: new Map(), tables: new Map() });
  expect(copy.revision).toBe(9);
  copy.take({ ...EMPTY_CHANGE, from: null, revision: 5 });
  expect(copy.revision).toBe(5);
});

test('of revisions that are not kept any more the difference is not known', async () => {
  const feed = new TopologyFeed();
  for (let revision = 1; revision <= 300; revision++) feed.publish({ revision, nodes: new Map(), tables: new Map() });
  expect((await feed.poll(299, 0, NOW))?.change).toMatchObject({ from: 299, revision: 300 });
  expect((await feed.poll(10, 0, NOW))?.change).toMatchObject({ from: null, revision: 300 });
});

test('two nodes that take each other for the manager do not believe each other', async () => {
  managing = null;
  const asked = topology(nodeAt(0).address, null, { forwarded: true });
  await expect(asked).rejects.toMatchObject({ code: 'MANAGER_LOST' });
});

test('a manager that stops says so to nodes that wait', async () => {
  await catalog.commit([put(1)]);
  const asked = topology(nodeAt(0).address, 1, { forwarded: true });
  asked.catch(() => {});
  await sleep(50);
  managing = null;
  await expect(asked).rejects.toMatchObject({ code: 'MANAGER_LOST' });
});

test('what is no revision is refused, and so is a node of another cluster', async () => {
  const { address } = nodeAt(0);
  for (const query of ['after=x', 'after=-1', 'after=1&after=2', 'since=1']) {
    const response = await fetch(`http://${address}/api/v1/topology?${query}`);
    expect(await response.json(), query).toMatchObject({ error: { code: 'BAD_REQUEST' } });
  }
  const stranger = topology(address, null, { cluster: 'another' });
  await expect(stranger).rejects.toMatchObject({ code: 'CLUSTER_MISMATCH' });
});

test('those who wait are bounded, keep nobody from a command, and make room when they go', async () => {
  let waiting = 0;
  const poll: TopologyFeed['poll'] = (_after, _waitMs, signal) => {
    waiting += 1;
    return new Promise((resolve) => {
      signal.addEventListener('abort', () => {
        waiting -= 1;
        resolve(null);
      });
    });
  };
  nodeAt(0).feed.poll = poll;
  const { address } = nodeAt(0);
  const endings = Array.from({ length: 140 }, () => new AbortController());
  const codes: string[] = [];
  const many = endings.map(({ signal }) =>
    topology(address, 1, { signal, timeoutMs: 60_000 }).catch((error) => void codes.push(error.code)),
  );
  await vi.waitFor(() => expect([waiting, codes.length]).toEqual([128, 12]), { timeout: 30_000 });
  expect(new Set(codes)).toEqual(new Set(['NODE_BUSY']));
  // Nodes have places of their own.
  const follower = new AbortController();
  const asked = topology(address, 1, { forwarded: true, signal: follower.signal }).catch(() => {});
  await vi.waitFor(() => expect(waiting).toBe(129), { timeout: 30_000 });
  expect((await fetch(`http://${address}/api/v1/whoami`, WHO)).status).toBe(200);
  for (const ending of [...endings, follower]) ending.abort();
  await Promise.all([...many, asked]);
  await vi.waitFor(() => expect(waiting).toBe(0), { timeout: 30_000 });
});

const WHO = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' };
