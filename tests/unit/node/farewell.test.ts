import { createServer, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { watchEnd } from '../../../src/api/farewell.ts';
import { must } from '../../../src/core/assert.ts';
import { Farewell } from '../../../src/node/farewell.ts';

let server: Server;
let farewell: Farewell;
let address: string;
let port: number;
const sockets = new Set<Socket>();

beforeEach(async () => {
  farewell = new Farewell();
  server = createServer((_, response) => response.end('{}'));
  server.on('connection', (socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as { port: number }).port;
  address = `127.0.0.1:${port}`;
});
afterEach(async () => {
  // As the death of the process does.
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  await new Promise((resolve) => server.close(resolve));
});

/** As the HTTP server of a node does, which asks first who it is (tests/unit/node/http.test.ts). */
function attach(): void {
  server.on('connect', (request, socket) => farewell.receive(request, socket));
}

async function until(met: () => boolean): Promise<void> {
  const untilMs = performance.now() + 10_000;
  while (!met() && performance.now() < untilMs) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(met()).toBe(true);
}

test('a watcher hears what the node says, and sees its end after its last word', async () => {
  attach();
  const watch = must(await watchEnd(address, 5_000), 'watch');
  farewell.say({ says: 'ends its sessions' });
  await until(() => watch.says === 'ends its sessions');
  server.closeAllConnections();
  await farewell.beside(new Promise((resolve) => server.close(resolve)));
  expect(watch.end).toBeNull();
  farewell.say({ ended: true, postgres: 'stopped' });
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(watch.end).toBeNull();
  for (const socket of sockets) socket.destroy();
  await until(() => watch.end !== null);
  expect(watch.end).toEqual({ postgres: 'stopped' });
});

test('of a node that was killed nothing is known of its PostgreSQL', async () => {
  attach();
  const watch = must(await watchEnd(address, 5_000), 'watch');
  for (const socket of sockets) socket.destroy();
  await until(() => watch.end !== null);
  expect(watch.end).toEqual({ postgres: 'unknown' });
});

test('a node that cannot be watched, one that is not there and one that is silent are no end', async () => {
  expect(await watchEnd(address, 5_000)).toBeNull();
  expect(await watchEnd('127.0.0.1:1', 5_000)).toBeNull();
  server.on('connect', () => {});
  expect(await watchEnd(address, 50)).toBeNull();
});

test('other targets are refused, and so are more watchers than there can be', async () => {
  attach();
  const answer = (target: string) =>
    new Promise<string>((resolve) => {
      let text = '';
      const socket = connect(port, '127.0.0.1', () => socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: x\r\n\r\n`));
      socket.on('data', (chunk) => (text += chunk.toString())).on('close', () => resolve(text.split('\r\n')[0] ?? ''));
    });
  expect(await answer('db1:5432')).toBe('HTTP/1.1 400 Bad Request');
  const watchers = await Promise.all(Array.from({ length: 32 }, () => watchEnd(address, 5_000)));
  expect(watchers).not.toContain(null);
  expect(await answer('pgtide-farewell:0')).toBe('HTTP/1.1 503 Service Unavailable');
  watchers[0]?.close();
  await until(() => watchers[0]?.end !== null);
  expect(await watchEnd(address, 5_000)).not.toBeNull();
});
