import { expect, test } from 'vitest';
import { createHttp, type HttpPorts } from '../../../src/node/http.ts';
import type { ManagerHandle } from '../../../src/node/manager-handle.ts';

async function health(ready: boolean, manager: Partial<ManagerHandle> | null): Promise<[number, unknown]> {
  const ports = {
    ready: () => ready,
    manager: () => manager,
    names: new Set(['localhost']),
    clusterId: () => 'c',
  } as Partial<HttpPorts> as HttpPorts;
  const app = createHttp(ports);
  const { statusCode, body } = await app.inject('/health');
  await app.close();
  return [statusCode, JSON.parse(body)];
}

test('a node is healthy when it takes statements, and says what its manager waits for', async () => {
  expect(await health(true, null)).toEqual([200, { ready: true }]);
  expect(await health(false, null)).toEqual([503, { ready: false }]);
  expect(await health(true, { storeIsFull: false })).toEqual([200, { ready: true }]);
  const full = { ready: true, waitsFor: 'disk', why: 'the meta store has no room' };
  expect(await health(true, { storeIsFull: true })).toEqual([200, full]);
});
