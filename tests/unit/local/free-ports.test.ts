import { createServer } from 'node:net';
import { expect, test, vi } from 'vitest';

type Module = typeof import('../../../src/local/free-ports.ts');

/** The module as another process has it. */
async function elsewhere(): Promise<Module> {
  vi.resetModules();
  return import('../../../src/local/free-ports.ts');
}

test('nobody is given a port twice, in one process or in two, though nobody listens there', async () => {
  const [one, two] = [await elsewhere(), await elsewhere()];
  const ports = await Promise.all([one.freePorts(40), two.freePorts(40), one.freePorts(40), two.freePorts(40)]);
  expect(new Set(ports.flat()).size).toBe(160);
  const listening = ports.flat().map(
    (port) =>
      new Promise<void>((resolve, reject) => {
        const server = createServer().once('error', reject);
        server.listen(port, '127.0.0.1', () => server.close(() => resolve()));
      }),
  );
  await Promise.all(listening);
});
