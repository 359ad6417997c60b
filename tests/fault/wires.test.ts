import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { freePorts } from '../../src/local/free-ports.ts';
import { whatIsWrong } from '../support/checks.ts';
import { LocalCluster } from '../support/cluster.ts';
import { played } from '../support/matrix.ts';
import { untilEnded } from '../support/operations.ts';
import { createHistoryTable, Historians } from './support/historians.ts';
import { whatIsWrongWith } from './support/history.ts';
import { Network } from './support/network.ts';
import { Relay } from './support/relay.ts';

/**
 * Connections between the nodes that are slow, or open and dead, while operations run under load. Node 1
 * manages.
 */
const NODES = [1, 2, 3];
const MANAGER = 1;
const SLOW = { delayMs: 15 };
/**
 * A statement that nobody answers is given up after 17 s (src/postgres/sql/client.ts), one on a node that
 * falls silent after three.
 */
const GIVEN_UP_MS = 25_000;

const [network, unable] = await Network.create();
if (unable !== null) report(`SKIPPED, no network namespaces (they need root and iproute2): ${unable}`);
const scenario = test.skipIf(network === null);

let cluster: LocalCluster;
let relay: Relay;

function report(text: string): void {
  process.stderr.write(`wires: ${text}\n`);
}

beforeAll(async () => {
  if (!network) return;
  relay = new Relay((address) => NODES.find((n) => network.host(n) === address) ?? null);
  cluster = await LocalCluster.create();
  for (const node of NODES) {
    const ports = await freePorts(3);
    const place = await network.place();
    for (const port of ports) await relay.listen(network.ownHost(node), port, { node, host: place.host });
    await cluster.addNode({ ...place, ports, advertiseHost: network.ownHost(node) });
  }
  await createHistoryTable(cluster, 2);
});

afterAll(async () => {
  relay?.heal();
  await cluster?.close();
  relay?.close();
  await network?.close();
});

afterEach(() => relay?.heal());

const begin = () => Historians.start(cluster, { manager: MANAGER, nodes: NODES, perNode: 4 });
const rows = () => cluster.admin({ do: 'partition-ls' }, { node: MANAGER });
const show = (id: number) => cluster.admin({ do: 'op-show', id }, { node: MANAGER });

const setMaxPause = (ms: number) =>
  cluster.admin({ do: 'setting-set', key: 'move.max_pause', value: String(ms) }, { node: MANAGER });

/** Moves a partition to a node that has no part in it. */
async function beginMove(to: number): Promise<number> {
  const all = await rows();
  const holds = (pid: number) => all.some((r) => r.pid === pid && r.node === to);
  const movable = all.find((r) => r.role === 'leader' && !holds(r.pid));
  const { pid, node: from } = must(movable, `a partition that node ${to} has no part in`);
  const { operations } = await cluster.admin(
    { do: 'partition-migrate', table: 'history', pids: [pid], from, to },
    { node: MANAGER },
  );
  return must(operations[0], 'operation');
}

async function expectRight(historians: Historians): Promise<void> {
  await historians.stop();
  for (const node of NODES) await historians.readAll(node);
  expect(whatIsWrongWith(historians.history, historians.epochs)).toEqual([]);
  expect(await whatIsWrong(cluster, NODES)).toEqual([]);
  const acknowledged = historians.acknowledged(0).length;
  report(`${historians.history.length} operations, ${acknowledged} writes acknowledged`);
  expect(acknowledged).toBeGreaterThan(100);
}

scenario('operations on slow connections take longer, and come to their end', async () => {
  const historians = await begin();
  // Statements that go back and forth over such a network hold a partition for longer than the usual budget
  // lets a swing wait.
  await setMaxPause(1_000);
  for (const from of NODES) for (const to of NODES) relay.set(from, to, SLOW);
  await sleep(500);
  const moved = await untilEnded(cluster, await beginMove(2), 90_000);
  expect(moved.status).toBe('done');
  relay.heal();
  await setMaxPause(200);
  await expectRight(historians);
});

const SWALLOWED = [
  { name: 'its answers are', lose: [[3, 1]] },
  { name: 'what it is asked is', lose: [[1, 3]] },
];

scenario.each(played(SWALLOWED, (_, index) => index === 0))(
  'a move to a node waits with a reason while $name swallowed, then goes on',
  async ({ lose }) => {
    const historians = await begin();
    await sleep(500);
    const before = relay.swallowed;
    const id = await beginMove(3);
    for (const [from, to] of lose) relay.set(must(from, 'from'), must(to, 'to'), 'swallows');
    const reason = async () => (await show(id)).waitsFor?.text ?? '';
    await expect.poll(reason, { timeout: GIVEN_UP_MS, interval: 100 }).toMatch(/node 3/);
    report(`waits: ${await reason()}`);
    expect((await show(id)).endedAt).toBeNull();
    expect(relay.swallowed).toBeGreaterThan(before);
    relay.heal();
    expect((await untilEnded(cluster, id, 90_000)).status).toBe('done');
    await expectRight(historians);
  },
);
