import Fastify, { type FastifyInstance } from 'fastify';
import * as z from 'zod';
import { post } from '../api/client.ts';
import { adminCommand } from '../api/commands.ts';
import {
  beatReport,
  joinRequest,
  type MetaTransfer,
  metaTransfer,
  requireCompatible,
  type WhoAmI,
} from '../api/membership.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import type { ManagerHandle } from './manager-handle.ts';

export interface HttpPorts {
  /** The manager, where it runs in this process. */
  manager(): ManagerHandle | null;
  /** HOST:PORT of the manager, where it runs elsewhere. */
  managerAddress(): string;
  whoAmI(): WhoAmI;
  /** Moves the meta store and the manager from here to another node; answers when they run there. */
  handOver(node: number): Promise<{ node: number; address: string }>;
  receiveMeta(transfer: MetaTransfer): Promise<void>;
  activateMeta(from: number): Promise<void>;
  /** Begins the end of this node. */
  quit(): void;
  ready(): boolean;
}

/** An operation may be started by a call, never awaited: what takes longer has failed. */
const FORWARD_MS = 60_000;
/** A cluster of 100,000 partitions and its journal. */
const META_BYTES_MAX = 1 << 30;
const activation = z.strictObject({ from: z.int().positive() });

/** The admin API, the same on the listen port and the HTTP port. Any node takes any command and hands it to the manager. */
export function createHttp(ports: HttpPorts): FastifyInstance {
  const app = Fastify({ bodyLimit: 4 << 20, forceCloseConnections: true });
  app.setErrorHandler((error, _request, reply) => {
    const body = asTideError(error);
    return reply.status(body.retry === 'later' ? 503 : 400).send({ error: body.toBody() });
  });

  app.post('/api/v1/admin', async (request) => {
    const manager = ports.manager();
    if (!manager) return { result: await forward(ports, '/api/v1/admin', request.body) };
    const command = parse(adminCommand, request.body, 'admin command');
    if (command.do === 'meta-move') return { result: await ports.handOver(command.node) };
    try {
      return { result: await manager.run(command) };
    } catch (error) {
      if (!(error instanceof TideError) || error.code !== 'META_HOME') throw error;
      // The node that is to go holds the meta store: its successor takes that over and then carries the command out.
      await ports.handOver(error.details.successor as number);
      return { result: await forward(ports, '/api/v1/admin', request.body) };
    }
  });
  app.post('/api/v1/join', async (request) => {
    const manager = ports.manager();
    if (!manager) return { result: await forward(ports, '/api/v1/join', request.body) };
    requireCompatible(request.body);
    return { result: await manager.join(parse(joinRequest, request.body, 'join request')) };
  });
  app.post('/api/v1/beat', async (request) => {
    const manager = ports.manager();
    if (manager) requireCompatible(request.body);
    const report = parse(beatReport, request.body, 'beat');
    if (!manager) {
      // The old home of the meta store beats here only after it has let go: a crash may have cut off its word to go on.
      await ports.activateMeta(report.node);
      return { result: await (ports.manager()?.beat(report) ?? forward(ports, '/api/v1/beat', report)) };
    }
    return { result: await manager.beat(report) };
  });
  app.post('/api/v1/meta/receive', { bodyLimit: META_BYTES_MAX }, async (request) => {
    await ports.receiveMeta(parse(metaTransfer, request.body, 'meta store'));
    return { result: null };
  });
  app.post('/api/v1/meta/activate', async (request) => {
    const { from } = parse(activation, request.body, 'activation');
    await ports.activateMeta(from);
    return { result: null };
  });
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

interface Schema<T> {
  safeParse(
    value: unknown,
  ): { success: true; data: T } | { success: false; error: { issues: { path: PropertyKey[]; message: string }[] } };
}

function parse<T>(schema: Schema<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const why = parsed.error.issues.map((i) => [...i.path.map(String), i.message].join(': ')).join('; ');
  throw tideError('BAD_REQUEST', { what, why });
}

async function forward(ports: HttpPorts, path: string, body: unknown): Promise<unknown> {
  const manager = ports.managerAddress();
  try {
    return await post(manager, path, body, { timeoutMs: FORWARD_MS });
  } catch (error) {
    if (error instanceof TideError && error.code !== 'UNREACHABLE') throw error;
    throw tideError('NO_MANAGER', { manager, why: messageOf(error) }, error);
  }
}

function asTideError(error: unknown): TideError {
  if (error instanceof TideError) return error;
  const status = (error as { statusCode?: number }).statusCode ?? 500;
  if (status < 500) return tideError('BAD_REQUEST', { what: 'request', why: messageOf(error) });
  return tideError('INTERNAL', { why: messageOf(error) }, error);
}
