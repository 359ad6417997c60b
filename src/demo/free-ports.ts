import { createServer } from 'node:net';
import { tideError } from '../core/errors.ts';

/** Below the range that systems take ports of outgoing connections from, so that nobody gets them between choice and use. */
const FIRST_PORT = 21_000;
const LAST_PORT = 32_000;
const TRIES_MAX = 200;

const taken = new Set<number>();

/** Loopback ports that nobody listens on and that this process has not given out before. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries === TRIES_MAX) throw tideError('INTERNAL', { why: `no ${count} free ports on 127.0.0.1` });
    const port = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT));
    if (taken.has(port) || !(await isFree(port))) continue;
    taken.add(port);
    ports.push(port);
  }
  return ports;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
