import { createServer, type Server } from 'node:net';
import { tideError } from '../core/errors.ts';

/**
 * Below the range that systems take ports of outgoing connections from, so that nobody gets them between
 * choice and use.
 */
const FIRST_PORT = 21_000;
const LAST_PORT = 32_000;
const BLOCK_PORTS = 50;
const TRIES_MAX = 500;

/** Ports of the blocks that are this process's own, not given out yet. */
const own: number[] = [];

/**
 * Loopback ports that nobody listens on and that nobody is given twice: not by this process, and not by
 * another that asks here meanwhile, though whoever uses them may stop for a while and start again.
 */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count; tries++) {
    if (tries === TRIES_MAX) throw tideError('INTERNAL', { why: `no ${count} free ports on 127.0.0.1` });
    const port = own.shift();
    if (port === undefined) await claimBlock();
    else if (await isFree(port)) ports.push(port);
  }
  return ports;
}

/** A block is whose process listens on its first port; the system takes it back when that ends. */
async function claimBlock(): Promise<void> {
  const blocks = Math.floor((LAST_PORT - FIRST_PORT) / BLOCK_PORTS);
  const first = FIRST_PORT + Math.floor(Math.random() * blocks) * BLOCK_PORTS;
  const claim = await listen(first);
  claim?.unref();
  if (claim) own.push(...Array.from({ length: BLOCK_PORTS - 1 }, (_, i) => first + 1 + i));
}

async function isFree(port: number): Promise<boolean> {
  const server = await listen(port);
  await new Promise((resolve) => (server ? server.close(resolve) : resolve(null)));
  return server !== null;
}

/** Null where somebody listens there. */
function listen(port: number): Promise<Server | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => resolve(server));
  });
}
