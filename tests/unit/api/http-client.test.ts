import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { post } from '../../../src/api/http-client.ts';

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
  await expect(post(address, '/', {}, { timeoutMs: TIMEOUT_MS })).rejects.toMatchObject({
    code: 'UNREACHABLE',
    message: expect.stringContaining('0.3 s'),
  });
  expect(performance.now() - sinceMs).toBeLessThan(10 * TIMEOUT_MS);
  expect(chunks).toBeGreaterThan(0);
});
