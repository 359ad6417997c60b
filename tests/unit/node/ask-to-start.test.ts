import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { StartRequest, WhoAmI } from '../../../src/api/membership.ts';
import { type TideError, tideError } from '../../../src/core/errors.ts';
import type { Claim } from '../../../src/core/starts.ts';
import { type AskOptions, askToStart } from '../../../src/node/ask-to-start.ts';
import type { Starts } from '../../../src/node/starts.ts';
import { MemoryStore } from '../../../src/store/memory-store.ts';

const NODE = 2;

/** Another node, as it is reached. */
class Other {
  readonly asked: StartRequest[] = [];
  readonly #server: Server;
  who: Partial<WhoAmI> = {};
  /** What it says to a start, one after the other, the last for ever; null: it may be the node. */
  says: (TideError | null)[] = [null];
  /** Of version 0.1: it knows no such route. */
  older = false;

  private constructor() {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const body = JSON.parse(Buffer.concat(chunks).toString());
      if (request.url === '/api/v1/whoami') response.end(JSON.stringify({ result: this.who }));
      else if (this.older) response.writeHead(404).end(JSON.stringify({ error: 'Not Found' }));
      else {
        this.asked.push(body);
        const error = this.says.length > 1 ? this.says.shift() : this.says[0];
        response.end(JSON.stringify(error ? { error: error.toBody() } : { result: null }));
      }
    });
  }

  static async open(who: Partial<WhoAmI> = {}): Promise<Other> {
    const other = new Other();
    other.#server.listen(0, '127.0.0.1');
    await once(other.#server, 'listening');
    other.who = { nodeId: 1, clusterId: 'c', ...who };
    others.push(other);
    return other;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

const others: Other[] = [];
afterEach(() => {
  for (const other of others.splice(0)) other.close();
});

const NOBODY = '127.0.0.1:1';
const mayRun = tideError('NODE_MAY_RUN', { node: NODE, address: NOBODY, why: 'it was heard 0.2 s ago' });

async function ask(options: Partial<AskOptions>, claim: Partial<Claim> = {}) {
  const said: string[] = [];
  let admitted = false;
  const starts = {
    id: 'd',
    claim: { id: 'd', after: ['a', 'b', 'c'], ended: [], ...claim },
    admit: async () => {
      admitted = true;
    },
  } as unknown as Starts;
  const beganMs = performance.now();
  const outcome = await askToStart({
    node: NODE,
    clusterId: 'c',
    address: '127.0.0.1:2',
    lastAddress: NOBODY,
    starts,
    peers: [],
    manager: 'here',
    ended: () => false,
    say: (text) => void said.push(text),
    ...options,
  }).then(
    () => 'goes on',
    (error: TideError) => error.code,
  );
  return { outcome, admitted, said, tookMs: performance.now() - beganMs };
}

test('whoever is where this node was last is told, and this start is refused without the manager', async () => {
  const twin = await Other.open({ nodeId: NODE, start: 'c' });
  const { outcome } = await ask({ lastAddress: twin.address, manager: { at: NOBODY } });
  expect(outcome).toBe('NODE_TWICE');
  expect(twin.asked).toMatchObject([{ node: NODE, clusterId: 'c', start: { id: 'd' } }]);
});

test.each([
  ['itself', { nodeId: NODE, start: 'd' }],
  ['another node', { nodeId: 7 }],
  ['a node of another cluster', { nodeId: NODE, clusterId: 'other', start: 'x' }],
])('where this node was last there may be %s', async (_whom, who) => {
  const there = await Other.open(who);
  const manager = await Other.open();
  const asked = await ask({ lastAddress: there.address, manager: { at: manager.address } });
  expect(asked).toMatchObject({ outcome: 'goes on', admitted: true, said: [] });
});

test('the manager is asked again while the old start may run', async () => {
  const manager = await Other.open();
  manager.says = [mayRun, mayRun, null];
  const { outcome, admitted, said } = await ask({ manager: { at: manager.address } });
  expect([outcome, admitted]).toEqual(['goes on', true]);
  expect(manager.asked).toHaveLength(3);
  expect(said).toEqual(['node 2 waits to know that it does not run elsewhere: it was heard 0.2 s ago']);
});

test('what the manager refuses is refused', async () => {
  const manager = await Other.open();
  manager.says = [tideError('NODE_OVERTAKEN', { node: NODE, why: 'it is' })];
  expect(await ask({ manager: { at: manager.address } })).toMatchObject({ outcome: 'NODE_OVERTAKEN', admitted: false });
});

test('where nobody can say it goes on, and is not admitted yet', async () => {
  const older = await Other.open();
  older.older = true;
  const foreign = await Other.open();
  foreign.says = [tideError('CLUSTER_MISMATCH', { caller: 'c', cluster: 'd' })];
  for (const at of [older.address, foreign.address, NOBODY])
    expect(await ask({ manager: { at } })).toMatchObject({ outcome: 'goes on', admitted: false });
});

test('one that is told to end while it waits ends', async () => {
  const manager = await Other.open();
  manager.says = [mayRun];
  expect((await ask({ manager: { at: manager.address }, ended: () => true })).outcome).toBe('JOIN_STOPPED');
});

const heard = (node: number, start: string, agoMs: number | null) => ({ nodeId: 3, managedBy: { node, start, agoMs } });

test.each([
  ['nobody is there', null, [], 'goes on'],
  ['a peer says nothing of managers', { nodeId: 3 }, [], 'goes on'],
  ['a peer has heard this start', heard(NODE, 'd', 10), [], 'goes on'],
  ['a peer has just heard a start that has ended', heard(NODE, 'c', 10), ['c'], 'goes on'],
  ['a peer heard the last start a while ago', heard(NODE, 'c', 5_000), [], 'goes on'],
  ['a peer has not heard anybody since its own start', heard(NODE, 'c', null), [], 'goes on'],
  ['a peer was with a later start, however long ago', heard(NODE, 'later', null), [], 'NODE_OVERTAKEN'],
  ['the store moved from another node', heard(1, 'x', 60_000), [], 'goes on'],
  ['another start of this node runs at the address of a peer', { nodeId: NODE, start: 'c' }, [], 'NODE_TWICE'],
])('the node with the manager: %s', async (_what, who, ended, outcome) => {
  const peers = who ? [(await Other.open(who)).address, NOBODY] : [NOBODY];
  const asked = await ask({ peers }, { ended });
  expect(asked).toMatchObject({ outcome, admitted: outcome === 'goes on' });
  expect(asked.tookMs).toBeLessThan(3_000);
});

test('the node with the manager waits for the silence of one that its peers hear', async () => {
  const peer = await Other.open(heard(NODE, 'c', 100));
  const asking = ask({ peers: [peer.address] });
  await new Promise((resolve) => setTimeout(resolve, 600));
  peer.who = { clusterId: 'c', ...heard(NODE, 'c', 3_500) };
  expect(await asking).toMatchObject({ outcome: 'goes on', admitted: true });
  peer.who = { clusterId: 'c', ...heard(4, 'x', 100) };
  const refused = await ask({ peers: [peer.address] });
  expect(refused.outcome).toBe('NODE_MAY_RUN');
  expect(refused.said).toEqual([expect.stringContaining('node 3 heard node 4 as the manager')]);
});

test.each<[string, object | null, string[], string, boolean]>([
  ['no lease', null, [], 'goes on', true],
  ['a lease of a program that does not say', {}, [], 'goes on', false],
  ['a lease of a start that has ended', { start: 'c' }, ['c'], 'goes on', true],
  ['a lease of a later start', { start: 'later' }, [], 'NODE_TWICE', false],
])('with etcd and no manager: %s', async (_what, value, ended, outcome, admitted) => {
  const store = new MemoryStore();
  if (value) await store.txn({ when: [], write: [{ put: `/lease/${NODE}`, value }] });
  expect(await ask({ manager: { in: store } }, { ended })).toMatchObject({ outcome, admitted });
});

test('with etcd and no manager a lease of the last start is waited for', async () => {
  const store = new MemoryStore();
  const lease = await store.grant(700);
  await store.txn({ when: [], write: [{ put: `/lease/${NODE}`, value: { start: 'c' }, lease }] });
  const { outcome, tookMs, said } = await ask({ manager: { in: store } });
  expect(outcome).toBe('goes on');
  expect(tookMs).toBeGreaterThan(600);
  expect(said).toHaveLength(1);
});

test('with etcd the manager is where its seat says, but for a seat that this node has left behind', async () => {
  const store = new MemoryStore();
  const manager = await Other.open();
  const seat = (address: string) => store.txn({ when: [], write: [{ put: '/manager', value: { address } }] });
  await seat(manager.address);
  expect(await ask({ manager: { in: store } })).toMatchObject({ outcome: 'goes on', admitted: true });
  expect(manager.asked).toHaveLength(1);
  await seat('127.0.0.1:2');
  expect(await ask({ manager: { in: store } })).toMatchObject({ outcome: 'goes on', admitted: true });
});
