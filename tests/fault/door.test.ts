import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTable, LocalCluster } from '../support/cluster.ts';

/** What comes in at a node's ports: floods, bodies without an end, clients that do nothing; and an error that nobody catches behind them. */

let cluster: LocalCluster;
const open = new Set<Socket>();

beforeAll(async () => {
  cluster = await LocalCluster.create();
  const bomb = join(cluster.dir, 'bomb.mjs');
  await writeFile(bomb, `process.on('SIGUSR2', () => { throw new Error('a bomb of this test'); });\n`);
  await cluster.addNode();
  await cluster.addNode({ within: ['env', `NODE_OPTIONS=--import=${bomb}`] });
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

const live = async (node: number) => (await cluster.admin({ do: 'node-status' })).find((n) => n.id === node)?.isLive;
const log = (node: number) => readFileSync(join(cluster.node(node).store, 'logs', 'node.log'), 'utf8');

test('a body of 540 MiB is refused before it is read, and the process goes on', async () => {
  const pid = cluster.nodePid(1);
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
  expect(cluster.nodePid(1)).toBe(pid);
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
  const postgres = cluster.postgresPid(2);
  const direct = cluster.postgres(2);
  await direct.query('INSERT INTO door VALUES (1, 1)');
  const pid = cluster.nodePid(2);
  await cluster.killNode(2, 'SIGUSR2');
  await expect.poll(() => cluster.nodePid(2), { timeout: 30_000 }).toBeNull();
  expect(cluster.output(2)).toContain('a bomb of this test');
  expect(log(2)).toMatch(/"level":60.*a bomb of this test.*bomb\.mjs/);
  expect((await direct.query('SELECT v FROM door')).rows).toEqual([{ v: 1 }]);
  await cluster.restartNode(2);
  expect(cluster.postgresPid(2)).toBe(postgres);
  expect(cluster.nodePid(2)).not.toBe(pid);
  await expect.poll(() => live(2), { timeout: 30_000 }).toBe(true);
});
