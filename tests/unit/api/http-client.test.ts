import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { ask, topology } from '../../../src/api/http-client.ts';

const TIMEOUT_MS = 300;

let server: Server | null = null;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
});

async function listen(answer: Parameters<typeof createServer>[1]): Promise<string> {
  server = createServer(answer);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('a call takes no longer than it may, however busily it is answered', async () => {
  let chunks = 0;
  const address = await listen((_, response) => {
    const drip = setInterval(() => {
      chunks += 1;
      response.write(' ');
    }, 20);
    response.on('close', () => clearInterval(drip));
  });
  const sinceMs = performance.now();
  await expect(ask(address, 'whoami', {}, { timeoutMs: TIMEOUT_MS })).rejects.toMatchObject({
    code: 'UNREACHABLE',
    message: expect.stringContaining('0.3 s'),
  });
  expect(performance.now() - sinceMs).toBeLessThan(10 * TIMEOUT_MS);
  expect(chunks).toBeGreaterThan(0);
});

test('a call says that no browser sends it, and how long its body is in bytes', async () => {
  let seen: object = {};
  let body = '';
  const address = await listen((request, response) => {
    seen = request.headers;
    request.setEncoding('utf8').on('data', (piece) => {
      body += piece;
    });
    request.on('end', () => response.end('{"result":7}'));
  });
  expect(await ask(address, 'meta/check', { url: 'Zoë' })).toBe(7);
  expect(seen).toMatchObject({ 'sec-pgtide': '1', 'content-type': 'application/json', 'content-length': '14' });
  expect(JSON.parse(body)).toEqual({ url: 'Zoë' });
});

test('nobody there, or cut off, is UNREACHABLE; only the first was surely not carried out', async () => {
  const address = await listen((_, response) => void response.destroy());
  const cut = await ask(address, 'whoami', {}).catch((error) => error);
  expect(cut).toMatchObject({ code: 'UNREACHABLE' });
  expect(cut).not.toHaveProperty('details.refused');
  server?.close();
  await once(server as Server, 'close');
  const nobody = await ask(address, 'whoami', {}).catch((error) => error);
  expect(nobody).toMatchObject({ code: 'UNREACHABLE', details: { refused: true } });
  await expect(ask('not an address', 'whoami', {})).rejects.toMatchObject({
    code: 'UNREACHABLE',
    message: expect.stringContaining('HOST:PORT'),
  });
});

test('a poll is a GET without a body, until its caller gives it up', async () => {
  let seen: object = {};
  const ending = new AbortController();
  const address = await listen(({ method, url, headers }) => {
    seen = { method, url, type: headers['content-type'], own: headers['sec-pgtide'] };
    ending.abort();
  });
  const poll = topology(address, 7, { signal: ending.signal });
  await expect(poll).rejects.toMatchObject({ code: 'UNREACHABLE' });
  expect(seen).toEqual({ method: 'GET', url: '/api/v1/topology?after=7', type: undefined, own: '1' });
  await expect(topology(address, null, { signal: ending.signal })).rejects.toMatchObject({ code: 'UNREACHABLE' });
});
