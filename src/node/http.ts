import type { FastifyInstance, FastifyRequest } from 'fastify';
import * as z from 'zod';
import { adminCommand } from '../api/commands.ts';
import { CALLER_CLUSTER, FORWARDED } from '../api/headers.ts';
import { post } from '../api/http-client.ts';
import {
  beatReport,
  joinRequest,
  META_BYTES_MAX,
  metaPart,
  metaTransfer,
  requireCompatible,
  type StartRequest,
  startRequest,
  type WhoAmI,
} from '../api/membership.ts';
import { TideError, tideError } from '../core/errors.ts';
import { Slots } from './http-load.ts';
import { parse } from './http-parse.ts';
import { createHttpServer, type HttpServerOptions } from './http-server.ts';
import type { ManagerHandle } from './manager-handle.ts';
import type { MetaMover } from './meta-mover.ts';
import type { TopologyFeed } from './topology-feed.ts';
import { serveTopology } from './topology-route.ts';

export interface HttpPorts extends HttpServerOptions {
  /** The manager, where it runs in this process. */
  manager(): ManagerHandle | null;
  /** Sends to the manager, where it runs elsewhere. */
  withManager<T>(send: (address: string) => Promise<T>): Promise<T>;
  /** Nodes find the manager in a shared store, and need not ask each other. */
  isShared(): boolean;
  whoAmI(): WhoAmI;
  /** Null: it has none yet. */
  clusterId(): string | null;
  mover: MetaMover;
  topology: TopologyFeed;
  /** Throws what keeps this node from a shared meta store. */
  checkMeta(url: string): Promise<void>;
  /** Some start of some node asks whether it may be that. */
  onStart(request: StartRequest): void;
  /** Begins the end of this node. */
  quit(): void;
  ready(): boolean;
}

/** An operation may be started by a call, never awaited: what takes longer has failed. */
const FORWARD_MS = 60_000;
/**
 * Commands that are carried out at once: more than people and programs have under way, fewer than would stop
 * everything else.
 */
const COMMANDS_MAX = 64;
const metaCheck = z.strictObject({ url: z.string().min(1) });
const FIRST = { config: { first: true } };
const LARGE = { bodyLimit: META_BYTES_MAX, config: { large: true } };
const activation = z.strictObject({ from: z.int().positive() });

/**
 * The admin API, the same on the listen port and the HTTP port. Any node takes any command and hands it to
 * the manager. Beats go before everything else; of the rest so much is done at once that they can.
 */
export function createHttp(ports: HttpPorts): FastifyInstance {
  const { app, turns } = createHttpServer(ports);
  app.addHook('onRequest', async (request) => requireOwnCluster(ports.clusterId(), request));
  const commands = new Slots(COMMANDS_MAX);
  const inTurn = <T>(work: () => Promise<T>) =>
    commands.hold(async () => {
      await turns.next();
      return work();
    });
  app.post('/api/v1/admin', async (request) => inTurn(() => carryOut(ports, request)));
  app.post('/api/v1/join', async (request) => inTurn(() => join(ports, request)));
  app.post('/api/v1/start', FIRST, async (request) => start(ports, request));
  app.post('/api/v1/beat', FIRST, async (request) => beat(ports, request));
  app.post('/api/v1/meta/part', LARGE, async (request) => {
    await ports.mover.receive(parse(metaPart, request.body, 'meta store'));
    return { result: null };
  });
  app.post('/api/v1/meta/receive', LARGE, async (request) => {
    await ports.mover.receiveWhole(parse(metaTransfer, request.body, 'meta store'));
    return { result: null };
  });
  app.post('/api/v1/meta/activate', async (request) => {
    const { from } = parse(activation, request.body, 'activation');
    await ports.mover.activate(from);
    return { result: null };
  });
  app.post('/api/v1/meta/check', async (request) => {
    await ports.checkMeta(parse(metaCheck, request.body, 'meta check').url);
    return { result: null };
  });
  serveTopology(app, ports);
  app.post('/api/v1/whoami', async () => ({ result: ports.whoAmI() }));
  app.post('/api/v1/quit', async () => {
    const { nodeId } = ports.whoAmI();
    setImmediate(ports.quit);
    return { result: { nodeId } };
  });
  app.get('/health', async (_request, reply) => {
    const ready = ports.ready();
    // Data is served all the same: no reason to take the node out of a load balancer.
    const full = ports.manager()?.storeIsFull ? { waitsFor: 'disk', why: 'the meta store has no room' } : {};
    return reply.status(ready ? 200 : 503).send({ ready, ...full });
  });
  return app;
}

/**
 * An address outlives who had it: what a node of another cluster wants is not for this one. Throws
 * CLUSTER_MISMATCH.
 */
function requireOwnCluster(cluster: string | null, { headers }: FastifyRequest): void {
  const caller = headers[CALLER_CLUSTER];
  if (caller === undefined || cluster === null || caller === cluster) return;
  throw tideError('CLUSTER_MISMATCH', { caller: String(caller).slice(0, 100), cluster });
}

async function carryOut(ports: HttpPorts, request: FastifyRequest): Promise<{ result: unknown }> {
  const manager = ports.manager();
  if (!manager) return { result: await forward(ports, request, '/api/v1/admin') };
  const command = parse(adminCommand, request.body, 'admin command');
  if (command.do === 'meta-move') return { result: await ports.mover.handOver(command.node) };
  if (command.do === 'meta-migrate') return { result: await ports.mover.migrate(command.to) };
  try {
    return { result: await manager.run(command) };
  } catch (error) {
    if (!(error instanceof TideError) || error.code !== 'META_HOME') throw error;
    // The node that is to go holds the meta store: its successor takes that over and then carries the command
    // out.
    await ports.mover.handOver(error.details.successor as number);
    return { result: await forward(ports, request, '/api/v1/admin') };
  }
}

async function join(ports: HttpPorts, request: FastifyRequest): Promise<{ result: unknown }> {
  const manager = ports.manager();
  if (!manager) return { result: await forward(ports, request, '/api/v1/join') };
  requireCompatible(request.body);
  return { result: await manager.join(parse(joinRequest, request.body, 'join request')) };
}

async function start(ports: HttpPorts, request: FastifyRequest): Promise<{ result: unknown }> {
  const asked = parse(startRequest, request.body, 'start');
  ports.onStart(asked);
  const manager = ports.manager();
  if (!manager && request.headers[FORWARDED] !== undefined)
    throw tideError('NO_MANAGER', { manager: asked.address, why: 'two nodes take each other for the manager' });
  if (!manager) return { result: await forward(ports, request, '/api/v1/start') };
  await manager.admit(asked);
  return { result: null };
}

async function beat(ports: HttpPorts, request: FastifyRequest): Promise<{ result: unknown }> {
  const manager = ports.manager();
  if (manager) requireCompatible(request.body);
  const report = parse(beatReport, request.body, 'beat');
  if (manager) return { result: await manager.beat(report) };
  // The old home of the meta store beats here only after it has let go: a crash may have cut off its word to
  // go on.
  await ports.mover.activate(report.node);
  return { result: await (ports.manager()?.beat(report) ?? forward(ports, request, '/api/v1/beat')) };
}

/**
 * What another node has passed on is not passed on once more: its view and this one's differ, and neither may
 * be right yet.
 */
async function forward(ports: HttpPorts, request: FastifyRequest, path: string): Promise<unknown> {
  const isForwarded = request.headers[FORWARDED] !== undefined;
  if (isForwarded && ports.isShared()) throw tideError('NO_MANAGER_ELECTED', { why: 'it changes at this moment' });
  const options = { timeoutMs: FORWARD_MS, forwarded: true, cluster: ports.clusterId() ?? undefined };
  return ports.withManager((manager) => post(manager, path, request.body, options));
}
