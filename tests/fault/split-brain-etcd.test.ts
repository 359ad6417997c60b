import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { subscriptionName } from '../../src/catalog/names.ts';
import { must } from '../../src/core/assert.ts';
import type { TideError } from '../../src/core/errors.ts';
import { monotonicMs, readLeaseNote } from '../../src/node/node-lease.ts';
import { whatIsWrong } from '../support/checks.ts';
import { LocalCluster } from '../support/cluster.ts';
import { ETCD, EtcdCluster } from '../support/etcd.ts';
import { played } from '../support/matrix.ts';
import { type LogLine, untilLogged } from '../support/node-log.ts';
import { createHistoryTable, Historians } from './support/historians.ts';
import { type Operation, whatIsWrongWith } from './support/history.ts';
import { Network } from './support/network.ts';

/**
 * A leader that is cut off from everybody and from etcd, or frozen as a whole, with clients on every side.
 * Nobody says anything: when its lease has run out others lead. It has let nobody in by then, and nothing
 * that it acknowledges or shows may differ from what others do.
 */
const NODES = [1, 2, 3];
/** Where etcd is, in a network namespace of its own. */
const STORE = 4;
const LEASE_S = 6;
/** How long before the end of its lease a node lets nobody in any more (src/node/node-lease.ts). */
const FENCE_MS = 3_000;
/** What is on its way at the moment of a cut may still be acknowledged. */
const IN_FLIGHT_MS = 300;
/** Longer than a node is frozen. */
const PATIENT_MS = 40_000;
/** Less than a connection to a node that has vanished takes to fail, 20 s. */
const REPLACED_MS = 17_000;
/** Another node may lose its lease meanwhile, for want of processor time. */
const SETTLED_MS = 60_000;

const [network, unable] = await Network.create();
if (unable !== null) report(`SKIPPED, no network namespaces (they need root and iproute2): ${unable}`);
if (ETCD === null) report('SKIPPED, no etcd');
const scenario = test.skipIf(network === null || ETCD === null);

let etcd: EtcdCluster;
let cluster: LocalCluster;
let historians: Historians | null = null;

function report(text: string): void {
  process.stderr.write(`split-brain with etcd: ${text}\n`);
}

beforeAll(async () => {
  if (!network || ETCD === null) return;
  const places = [];
  for (const _ of [...NODES, STORE]) places.push(await network.place());
  etcd = await EtcdCluster.start(1, places.pop());
  cluster = await LocalCluster.create();
  for (const place of places) await cluster.addNode({ ...place, flags: [`--meta=${etcd.url('/split')}`] });
  // What a node leads is known to the end.
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  await cluster.admin({ do: 'setting-set', key: 'node.lease', value: String(LEASE_S) });
  await createHistoryTable(cluster, 3);
});

/** After a failed scenario too: the next one has a machine and a network of its own. */
afterEach(async () => {
  await network?.heal();
  for (const node of cluster?.nodes ?? []) await network?.signal(node.id, 'SIGCONT');
  await historians?.stop();
});

afterAll(async () => {
  await cluster?.close();
  await etcd?.close();
  await network?.close();
});

const wires = () => must(network, 'network');
const othersThan = (node: number) => NODES.filter((n) => n !== node);
/** A node to ask, which will be there; where it asks a manager that is cut off, it is asked again. */
let through = 1;
const ask = () => ({ node: through, timeoutMs: 1_000 });
const rows = () => cluster.admin({ do: 'partition-ls' }, ask());
const leaders = async () => (await rows()).filter((r) => r.role === 'leader');
const ledBy = async (node: number) => new Set((await leaders()).filter((r) => r.node === node).map((r) => r.pid));
const epochsOf = async (pids: ReadonlySet<number>) =>
  new Map((await leaders()).filter((r) => pids.has(r.pid)).map((r) => [r.pid, r.epoch]));
const condition = async (node: number) =>
  (await cluster.admin({ do: 'node-status' }, ask())).find((r) => r.id === node)?.condition;
const events = (after = 0) => cluster.admin({ do: 'events', after, limit: 10_000 }, ask());
/** For whoever looks for the reason: a node may have lost its lease on a machine with much else to do. */
const state = async (pids: readonly number[]) => ({
  nodes: (await cluster.admin({ do: 'node-status' }, ask())).map((r) => `${r.id} ${r.condition}`),
  partitions: (await rows()).filter((r) => pids.includes(r.pid)).map((r) => `${r.pid} ${r.role} on ${r.node}`),
  running: await running(),
});
const running = async () =>
  (await cluster.admin({ do: 'op-ls', all: true }, ask()))
    .filter((o) => o.endedAt === null)
    .map((o) => `${o.kind} ${o.subject} ${o.step} ${o.waitsFor?.text}`);

async function manager(): Promise<number> {
  const { managers } = await cluster.admin({ do: 'manager-ls' }, ask());
  return must(
    managers.find((m) => m.role === 'leader'),
    'manager',
  ).node;
}

/** Moments of the wall clock, and of the clock that all processes share, by this process's own time. */
const atMs = (time: string) => Date.parse(time) - (Date.now() - performance.now());
const ownMs = (monotonic: number) => monotonic - (monotonicMs() - performance.now());

/** A node that leads, what it leads, and what was before anything happened to it. */
interface Victim {
  readonly node: number;
  readonly led: ReadonlySet<number>;
  readonly epochs: ReadonlyMap<number, number>;
  readonly seen: Historians;
  readonly lastEvent: number;
}

/** The node that manages, or else of the others the one that leads most. */
async function choose(manages: boolean): Promise<number> {
  const managing = await manager();
  const led = (await leaders()).map((r) => r.node);
  const most = (a: number, b: number) => led.filter((n) => n === b).length - led.filter((n) => n === a).length;
  const node = manages ? managing : must(othersThan(managing).sort(most)[0], 'node');
  through = must(othersThan(node)[0], 'another node');
  expect(led).toContain(node);
  return node;
}

async function begin(node: number, patient?: number): Promise<Victim> {
  const led = await ledBy(node);
  const epochs = await epochsOf(led);
  const lastEvent = Math.max(0, ...(await events()).map((e) => e.seq));
  const patience = patient === undefined ? {} : { patient, patientMs: PATIENT_MS };
  const readers = { node, pids: led, count: 2 };
  const seen = await Historians.start(cluster, { manager: through, nodes: NODES, perNode: 6, readers, ...patience });
  historians = seen;
  // The load runs, and what is to be taken from the node is written there.
  await expect
    .poll(() => seen.acknowledged(0, (o) => o.by === node && o.local).length, { timeout: 15_000, interval: 50 })
    .toBeGreaterThan(20);
  return { node, led, epochs, seen, lastEvent };
}

/**
 * Nobody is asked: others lead what it led, each in a new epoch, and are written to. Returns until when its
 * lease held.
 */
async function untilReplaced({ node, led, epochs, seen }: Victim): Promise<number> {
  const left = () => ledBy(node).catch(() => null);
  await expect.poll(left, { timeout: REPLACED_MS, interval: 50 }).toEqual(new Set());
  const replacedMs = performance.now();
  for (const [pid, epoch] of await epochsOf(led)) expect(epoch).toBeGreaterThan(must(epochs.get(pid), 'epoch'));
  expect(await condition(node)).toBe('out');
  const written = () => seen.acknowledged(replacedMs, (o) => led.has(o.pid) && o.by !== node);
  const unwritten = () => [...led].filter((pid) => !written().some((o) => o.pid === pid));
  await expect
    .poll(unwritten, { timeout: SETTLED_MS, interval: 50 })
    .toEqual([])
    .catch(async (error) => {
      report(JSON.stringify(await state(unwritten()).catch(String)));
      throw error;
    });
  await expect.poll(() => written().length, { timeout: 20_000, interval: 50 }).toBeGreaterThan(50);
  const note = await readLeaseNote(join(cluster.node(node).store, 'lease'));
  return ownMs(must(note, 'lease').untilMs) + FENCE_MS;
}

/** What was said of the node, and when somebody else could lead first. */
async function failover({ node, led, lastEvent }: Victim, isSilent: boolean): Promise<number> {
  const kinds = ['node-unproven', 'node-out', 'failover'];
  const told = async () =>
    (await events(lastEvent)).filter((e) => e.node === node && kinds.includes(e.kind)).sort((a, b) => a.seq - b.seq);
  const last = () =>
    told().then(
      (all) => all.at(-1)?.kind,
      () => null,
    );
  await expect.poll(last, { timeout: 20_000, interval: 50 }).toBe('failover');
  const all = await told();
  expect(all.map((e) => e.kind)).toEqual(isSilent ? kinds : kinds.slice(1));
  expect(all.at(-1)?.text).toBe(`node ${node}: ${led.size} partitions have a new leader`);
  return atMs(must(all.at(-2), 'node-out').at);
}

/**
 * It is taken back by itself, and clients at it are served; it leads again, and acknowledges what it leads.
 */
async function untilServesAgain({ node, led, seen }: Victim, sinceMs: number): Promise<void> {
  await expect.poll(() => condition(node), { timeout: 60_000, interval: 50 }).toBe('live');
  const liveMs = performance.now();
  await expect
    .poll(() => seen.acknowledged(liveMs, (o) => o.node === node).length, { timeout: 20_000, interval: 50 })
    .toBeGreaterThan(20);
  const pid = must([...led][0], 'a partition that it led');
  const change = () => cluster.admin({ do: 'partition-change-leader', table: 'history', pid, to: node }, ask());
  const leads = async () => (await ledBy(node).catch(() => new Set())).has(pid);
  // Not before its copy is whole again; the answer that it has begun may come too late.
  const begun = () =>
    change().then(
      () => 'begun',
      async (error: TideError) => ((await leads()) ? 'begun' : error.message),
    );
  await expect.poll(begun, { timeout: 60_000, interval: 50 }).toBe('begun');
  const own = () => seen.acknowledged(liveMs, (o) => o.pid === pid && o.by === node && o.local).length;
  await expect.poll(own, { timeout: 30_000, interval: 50 }).toBeGreaterThan(10);
  report(`node ${node} serves again ${since(sinceMs, liveMs)} ms after the end of its outage`);
}

const since = (fromMs: number, toMs = performance.now()) => Math.round(toMs - fromMs);

/** What the clients saw, with a last look at every key through two nodes; then everything, once it rests. */
async function expectRight({ node, seen }: Victim, except: (operation: Operation) => boolean = () => false) {
  await seen.stop();
  await seen.readAll(node);
  await seen.readAll(through);
  const judged = seen.history.filter((o) => !except(o));
  expect(whatIsWrongWith(judged, seen.epochs)).toEqual([]);
  const unrest = async () => {
    const before = await running();
    return before.length > 0 ? before : await whatIsWrong(cluster, NODES);
  };
  await expect.poll(unrest, { timeout: 90_000, interval: 300 }).toEqual([]);
  const own = judged.filter((o) => o.node === node).length;
  const acknowledged = seen.acknowledged(0).length;
  report(
    `${judged.length} operations judged, ${own} of them through node ${node}, ${acknowledged} writes acknowledged`,
  );
  expect(acknowledged).toBeGreaterThan(500);
  expect(own).toBeGreaterThan(100);
}

const sent = (node: number) => [...othersThan(node), STORE].map((to) => [node, to] as const);
const received = (node: number) => [...othersThan(node), STORE].map((from) => [from, node] as const);

/**
 * What happens after 20 s without a word anyway: the followers' workers give the stream up, and try to
 * connect.
 */
async function giveUpStreams(node: number): Promise<void> {
  const all = (sql: string) =>
    Promise.all(othersThan(node).map((n) => cluster.manager(n).query(sql, [subscriptionName(node, n)])));
  await all('SELECT pg_terminate_backend(pid) FROM pg_stat_subscription WHERE subname = $1');
  const waits = `SELECT wait_event FROM pg_stat_subscription JOIN pg_stat_activity USING (pid) WHERE subname = $1`;
  const connecting = async () => (await all(waits)).map(({ rows }) => rows[0]?.wait_event);
  const expected = othersThan(node).map(() => 'LibpqwalreceiverConnect');
  await expect.poll(connecting, { timeout: 6_000, interval: 50 }).toEqual(expected);
}

const CUTS = [
  { what: 'a leader', manages: false, name: 'everything', lost: (n: number) => [...sent(n), ...received(n)] },
  { what: 'a leader', manages: false, name: 'everything, what it sends', lost: sent },
  { what: 'the manager', manages: true, name: 'everything', lost: (n: number) => [...sent(n), ...received(n)] },
];

scenario.each(played(CUTS, ({ manages }) => manages))(
  '$what is cut off from $name: others lead after its lease, and it acknowledges and shows nothing that differs',
  async ({ manages, lost }) => {
    const victim = await begin(await choose(manages));
    const { node, led, seen } = victim;
    const faultMs = performance.now();
    for (const [from, to] of lost(node)) await wires().lose(from, to);
    const cutMs = performance.now() + IN_FLIGHT_MS;
    if (manages) await giveUpStreams(node);
    const leaseEndMs = await untilReplaced(victim);
    const outMs = await failover(victim, !manages);
    const healedMs = performance.now();
    // It was asked to the end, and acknowledged nothing, whoever leads.
    const asked = seen.history.filter((o) => o.kind !== 'read' && o.node === node && o.invokedMs > cutMs);
    expect(asked.length).toBeGreaterThan(10);
    expect(seen.acknowledged(cutMs, (o) => o.node === node || o.by === node)).toEqual([]);
    // Its own clients read what it led, until it let nobody in; only then, and when etcd had ended its lease,
    // did others lead.
    const reads = seen.history.filter((o) => o.kind === 'read' && o.node === node && o.local && o.endedMs > cutMs);
    expect(reads.length).toBeGreaterThan(10);
    const lastReadMs = Math.max(...reads.map((o) => o.endedMs));
    report(
      `node ${node}: last of ${reads.length} reads ${since(faultMs, lastReadMs)} ms after the cut, end of lease ${since(faultMs, leaseEndMs)} ms, out ${since(faultMs, outMs)} ms`,
    );
    expect(lastReadMs).toBeLessThan(leaseEndMs);
    expect(outMs).toBeGreaterThan(leaseEndMs);
    expect(reads.every((o) => led.has(o.pid))).toBe(true);
    await wires().heal();
    await untilServesAgain(victim, healedMs);
    await expectRight(victim);
  },
);

/** When the manager gave it leave to serve again. */
async function takenBack({ node, lastEvent }: Victim): Promise<number> {
  const look = async () => (await events(lastEvent)).find((e) => e.kind === 'node-back' && e.node === node)?.at;
  await expect.poll(() => look().catch(() => undefined), { timeout: 20_000, interval: 50 }).toBeDefined();
  return atMs(must(await look(), 'node-back'));
}

/**
 * When, after a moment, the node's own process has found nobody in its PostgreSQL any more: fenced, or ended
 * by the watchdog.
 */
async function fencedMs(node: number, afterMs: number): Promise<number> {
  const isFenced = ({ msg, kind, time }: LogLine) =>
    (msg === 'PostgreSQL is fenced' || kind === 'exited') && atMs(time) > afterMs;
  return atMs((await untilLogged(cluster.node(node).store, isFenced)).time);
}

scenario(
  'a leader is frozen in the middle of writes, wakes when others lead, and acknowledges nothing more',
  async () => {
    const node = await choose(false);
    const victim = await begin(node, node);
    const { led, seen } = victim;
    expect(await wires().freeze(node)).toBeGreaterThan(20);
    const frozenMs = performance.now();
    const leaseEndMs = await untilReplaced(victim);
    const outMs = await failover(victim, true);
    expect(outMs).toBeGreaterThan(leaseEndMs);
    // Whoever wrote there still waits for the answer.
    expect(seen.acknowledged(frozenMs, (o) => o.node === node || o.by === node)).toEqual([]);
    const thawMs = performance.now();
    expect(await wires().signal(node, 'SIGCONT')).toBeGreaterThan(20);
    await untilServesAgain(victim, thawMs);
    const upMs = await fencedMs(node, thawMs);
    const takenBackMs = await takenBack(victim);
    const was = (o: Operation) => led.has(o.pid) && o.by === node;
    // What its followers had when it was frozen is with the new leaders: that it is told of late is no harm,
    // and the history says so.
    const late = seen.acknowledged(0, (o) => was(o) && o.invokedMs < frozenMs && o.endedMs > thawMs);
    expect(seen.acknowledged(frozenMs, (o) => was(o) && o.endedMs < takenBackMs)).toEqual([]);
    const woken = seen.history.filter(
      (o) => o.kind !== 'read' && o.node === node && o.invokedMs < thawMs && o.endedMs > thawMs,
    );
    // Not promised (docs/reliability.md): what it shows to those who asked before the watchdog, or its own
    // process, had run.
    const isStale = (o: Operation) => o.kind === 'read' && was(o) && o.endedMs > thawMs && o.invokedMs < upMs;
    report(
      `node ${node}: fenced ${since(thawMs, upMs)} ms after it woke; ${woken.length} writes waited, ${late.length} of them acknowledged; ${seen.history.filter(isStale).length} reads before that`,
    );
    await expectRight(victim, isStale);
  },
);
