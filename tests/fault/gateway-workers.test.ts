import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { childrenOf, isAlive, trySignal } from '../../src/local/processes.ts';
import { LocalCluster } from '../support/cluster.ts';
import { untilLogged } from '../support/node-log.ts';

/** The processes that serve a node's sessions die, freeze, and outlive nobody. */

const WORKERS = 2;
const CLIENTS = 8;
const ENDED_MS = 10_000;
/** A node that does not beat is noticed well within this time. */
const NOTICED_MS = 5_000;

let cluster: LocalCluster;

beforeAll(async () => {
  cluster = await LocalCluster.create();
  await cluster.addNode({ flags: [`--workers=${WORKERS}`, `--max-clients=${CLIENTS}`] });
});
afterAll(() => cluster?.close());

const workers = () =>
  childrenOf(must(cluster.node(1).processId, 'process')).filter((processId) => {
    try {
      return readFileSync(`/proc/${processId}/cmdline`, 'utf8').includes('gateway/worker');
    } catch {
      return false;
    }
  });

/** A session, and whether it has ended. */
async function login() {
  const [host = '', port] = cluster.node(1).address.split(':');
  const client = new pg.Client({ host, port: Number(port), user: 'tide', database: 'tide' });
  const session = { client, ended: false };
  client.on('error', () => {});
  client.on('end', () => {
    session.ended = true;
  });
  await client.connect();
  return session;
}

/** What the server says to a client that asks for encryption first, as libpq does. */
async function greet(): Promise<Buffer> {
  const [host = '', port] = cluster.node(1).address.split(':');
  const socket = connect({ host, port: Number(port) });
  socket.write(Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]));
  const body = Buffer.from('\0\x03\0\0user\0tide\0database\0tide\0\0', 'latin1');
  const startup = Buffer.concat([Buffer.from([0, 0, 0, body.length + 4]), body]);
  socket.once('data', () => socket.write(startup));
  const answers: Buffer[] = [];
  for await (const answer of socket) {
    answers.push(answer);
    // Behind the N.
    if (Buffer.concat(answers).length > 1) break;
  }
  return Buffer.concat(answers).subarray(1);
}

/** A CancelRequest, as a client of protocol 3.0 sends it. */
async function cancel({ client }: { client: pg.Client }): Promise<void> {
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number };
  const request = Buffer.alloc(16);
  for (const [index, word] of [16, 80_877_102, processID, secretKey].entries()) request.writeInt32BE(word, index * 4);
  const [host = '', port] = cluster.node(1).address.split(':');
  const socket = connect({ host, port: Number(port) });
  socket.end(request);
  await once(socket.resume(), 'close');
}

const open = () => Promise.all(Array.from({ length: CLIENTS }, login));
const answers = async (session: { client: pg.Client }) =>
  expect((await session.client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
const isLive = async () => (await cluster.admin({ do: 'node-status' })).every((n) => n.isLive);

test('one that is killed takes its own sessions with it, and is started again', async () => {
  const sessions = await open();
  const [victim, survivor] = workers();
  await expect(login()).rejects.toMatchObject({ code: '53300' });
  trySignal(must(victim, 'worker'), 'SIGKILL');
  const left = () => sessions.filter((s) => !s.ended);
  await expect.poll(() => left().length, { timeout: ENDED_MS }).toBe(CLIENTS / WORKERS);
  await Promise.all(left().map(answers));
  expect(await isLive()).toBe(true);
  const said = await untilLogged(cluster.node(1).store, (line) => /gateway worker has ended/.test(line.msg ?? ''));
  expect(said).toMatchObject({ processId: victim, signal: 'SIGKILL' });
  await expect.poll(workers, { timeout: ENDED_MS }).toHaveLength(WORKERS);
  expect(workers()).toContain(survivor);
  // What it had let in counts no more.
  const more = await Promise.all(Array.from({ length: CLIENTS / WORKERS }, login));
  await Promise.all(more.map(answers));
  await expect(login()).rejects.toMatchObject({ code: '53300' });
  await Promise.all([...left(), ...more].map((s) => s.client.end()));
});

test('while they do nothing the node beats and takes commands; sessions go on after that', async () => {
  const sessions = await open();
  const frozen = workers();
  for (const processId of frozen) trySignal(processId, 'SIGSTOP');
  try {
    const waiting = Promise.all(sessions.map(answers));
    const untilMs = performance.now() + NOTICED_MS;
    while (performance.now() < untilMs) {
      expect(await isLive()).toBe(true);
      await sleep(100);
    }
    for (const processId of frozen) trySignal(processId, 'SIGCONT');
    await waiting;
  } finally {
    for (const processId of frozen) trySignal(processId, 'SIGCONT');
  }
  expect(workers()).toEqual(frozen);
  await Promise.all(sessions.map((s) => s.client.end()));
});

test('nothing of what clients say is lost on the way to a worker', async () => {
  // One at a time is quickest: some of them spoke before the node's process had let go of the connection.
  for (let i = 0; i < 300; i++) expect('RE').toContain((await greet()).toString('latin1', 0, 1));
});

test('a request to cancel finds its session, whichever worker takes it', async () => {
  const session = await login();
  // Workers take turns: the second request gets to another one than the first.
  for (let i = 0; i < WORKERS; i++) {
    const cancelled = expect(session.client.query('SELECT pg_sleep(60)')).rejects.toMatchObject({ code: '57014' });
    const sleeps =
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'";
    await expect.poll(async () => (await cluster.postgres(1).query(sleeps)).rows[0].n, { timeout: ENDED_MS }).toBe(1);
    await cancel(session);
    await cancelled;
  }
  await session.client.end();
});

test('they end with the process of their node, and those of the next one serve', async () => {
  const sessions = await open();
  const before = workers();
  await cluster.node(1).kill();
  await expect.poll(() => before.filter(isAlive), { timeout: ENDED_MS }).toEqual([]);
  await expect.poll(() => sessions.every((s) => s.ended), { timeout: ENDED_MS }).toBe(true);
  await cluster.node(1).restart();
  const again = await open();
  await Promise.all(again.map(answers));
  await Promise.all(again.map((s) => s.client.end()));
});
