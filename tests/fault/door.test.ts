import { writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { must } from '../../src/core/assert.ts';
import { createTable, LocalCluster, waitForAll } from '../support/cluster.ts';
import { untilLogged } from '../support/node-log.ts';

/**
 * What comes in at a node's ports: floods, bodies without an end, clients that do nothing; and an error that
 * nobody catches behind them.
 */

let cluster: LocalCluster;
const open = new Set<Socket>();

beforeAll(async () => {
  cluster = await LocalCluster.create();
  const bomb = join(cluster.dir, 'bomb.mjs');
  await writeFile(bomb, `process.on('SIGUSR2', () => { throw new Error('a bomb of this test'); });\n`);
  await cluster.addNode();
  await cluster.addNode({ within: ['env', `NODE_OPTIONS=--import=${bomb}`] });
  await cluster.admin({ do: 'setting-set', key: 'rebalance.auto', value: 'off' });
  await createTable(cluster, 'CREATE TABLE door (id int PRIMARY KEY, v int)', { partitions: 4, replicas: 2 });
});
afterAll(async () => {
  for (const socket of open) socket.destroy();
  await cluster?.close();
});

function dial(address: string): Socket {
  const [host, port] = address.split(':');
  const socket = connect({ host: host as string, port: Number(port) });
  socket.on('error', () => {}).resume();
  open.add(socket);
  return socket;
}

/** Of the node that is told how many clients it may let in. */
const CLIENTS = 10;

async function login(address: string): Promise<pg.Client> {
  const [host, port] = address.split(':');
  const client = new pg.Client({ host: host as string, port: Number(port), user: 'tide', database: 'tide' });
  client.on('error', () => {});
  await client.connect();
  return client;
}

const live = async (node: number) => (await cluster.admin({ do: 'node-status' })).find((n) => n.id === node)?.isLive;

test('a body of 540 MiB is refused before it is read, and the process goes on', async () => {
  const processId = cluster.node(1).processId;
  for (const address of [cluster.node(1).address, cluster.node(1).httpAddress]) {
    const socket = dial(address);
    const answers: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => answers.push(chunk));
    const head = `host: ${address}\r\ncontent-type: application/json\r\ncontent-length: ${540 << 20}`;
    socket.write(`POST /api/v1/meta/receive HTTP/1.1\r\n${head}\r\n\r\n{`);
    const chunk = Buffer.alloc(1 << 20, ' ');
    for (let sent = 0; sent < 540 && !socket.destroyed; sent++) if (!socket.write(chunk)) await sleep(2);
    await expect.poll(() => socket.closed, { timeout: 30_000 }).toBe(true);
    expect(Buffer.concat(answers).toString()).toMatch(/ 413 [\s\S]*BODY_TOO_LARGE/);
  }
  expect(cluster.node(1).processId).toBe(processId);
  expect(await live(1)).toBe(true);
});

test('the meta store moves there and back, in parts', async () => {
  for (const node of [2, 1]) {
    await cluster.admin({ do: 'meta-move', node }, { timeoutMs: 60_000 });
    const status = await cluster.admin({ do: 'node-status' }, { node: 1 });
    expect(status.find((n) => n.isManager)?.id).toBe(node);
    expect((await cluster.admin({ do: 'table-ls' })).map((t) => t.name)).toEqual(['door']);
  }
});

test('an error that nobody catches is logged and ends the process; PostgreSQL goes on, and the next process adopts it', async () => {
  const postgres = cluster.node(2).postgresProcessId;
  const direct = cluster.postgres(2);
  await direct.query('INSERT INTO door VALUES (1, 1)');
  const processId = cluster.node(2).processId;
  await cluster.node(2).kill('SIGUSR2');
  await expect.poll(() => cluster.node(2).processId, { timeout: 30_000 }).toBeNull();
  await expect.poll(() => cluster.node(2).output, { timeout: 10_000 }).toContain('a bomb of this test');
  const told = await untilLogged(cluster.node(2).store, (line) => line.level === 60);
  expect(JSON.stringify(told)).toMatch(/a bomb of this test.*bomb\.mjs/);
  expect((await direct.query('SELECT v FROM door')).rows).toEqual([{ v: 1 }]);
  await cluster.node(2).restart();
  expect(cluster.node(2).postgresProcessId).toBe(postgres);
  expect(cluster.node(2).processId).not.toBe(processId);
  await expect.poll(() => live(2), { timeout: 30_000 }).toBe(true);
});

test('two thousand connections that do nothing harm nobody, while clients work, partitions move and nodes beat', async () => {
  const { id, address } = await cluster.addNode({ flags: [`--max-clients=${CLIENTS}`] });
  const inside = await Promise.all(Array.from({ length: CLIENTS }, () => login(address)));
  await Promise.all(inside.map((client, i) => client.query('INSERT INTO door VALUES ($1, 0)', [1_000 + i])));
  const silent = Array.from({ length: 1_000 }, () => dial(address));
  const half = Array.from({ length: 1_000 }, () => {
    const socket = dial(address);
    socket.write(Buffer.from([0, 0, 0, 100, 0, 3, 0, 0]));
    return socket;
  });
  let arrived = 0;
  for (const socket of [...silent, ...half]) socket.once('connect', () => arrived++);
  let isOver = false;
  let beats = 0;
  const watch = (async () => {
    while (!isOver) {
      expect(await live(id)).toBe(true);
      beats += 1;
      await sleep(100);
    }
  })();
  let rounds = 0;
  const work = (async () => {
    while (!isOver) {
      await Promise.all(
        inside.map((client, i) => client.query('UPDATE door SET v = v + 1 WHERE id = $1', [1_000 + i])),
      );
      rounds += 1;
    }
  })();
  const refused = await Promise.allSettled(Array.from({ length: 300 }, () => login(address)));
  const leader = async () =>
    (await cluster.admin({ do: 'partition-ls' })).find((p) => p.pid === 0 && p.role === 'leader')?.node;
  const from = must(await leader(), 'leader');
  const { operations } = await cluster.admin({ do: 'partition-migrate', table: 'door', pids: [0], from, to: id });
  await waitForAll(cluster, operations);
  expect(await leader()).toBe(id);
  // The server has none of them: it answers at once to whoever comes directly.
  expect(await cluster.postgres(id).query('SELECT 1')).toMatchObject({ rowCount: 1 });
  await expect.poll(() => half.every((s) => s.closed) && silent.every((s) => s.closed), { timeout: 60_000 }).toBe(true);
  isOver = true;
  await Promise.all([watch, work]);
  expect(refused.map((r) => (r.status === 'rejected' ? r.reason.code : 'let in'))).toEqual(Array(300).fill('53300'));
  expect(arrived).toBe(2_000);
  expect(beats).toBeGreaterThan(3);
  expect(rounds).toBeGreaterThan(3);
  const { rows } = await must(inside[0], 'client').query('SELECT min(v), max(v) FROM door WHERE id >= 1000');
  expect(rows).toEqual([{ min: rounds, max: rounds }]);
  await must(inside.pop(), 'client').end();
  await expect.poll(async () => (await login(address)).query('SELECT 1')).toMatchObject({ rowCount: 1 });
  await Promise.all(inside.map((client) => client.end()));
});
