import Fastify, { type FastifyInstance } from 'fastify';
import { post } from '../api/client.ts';
import { adminCommand } from '../api/commands.ts';
import { beatReport, joinRequest, type WhoAmI } from '../api/membership.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import type { ManagerHandle } from './manager-handle.ts';

export interface HttpPorts {
  /** The manager, where it runs in this process. */
  manager(): ManagerHandle | null;
  /** HOST:PORT of the manager, where it runs elsewhere. */
  managerAddress(): string;
  whoAmI(): WhoAmI;
  /** Begins the end of this node. */
  quit(): void;
  ready(): boolean;
}

/** An operation may be started by a call, never awaited: what takes longer has failed. */
const FORWARD_MS = 60_000;

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
    return { result: await manager.run(parse(adminCommand, request.body, 'admin command')) };
  });
  app.post('/api/v1/join', async (request) => {
    const manager = ports.manager();
    if (!manager) return { result: await forward(ports, '/api/v1/join', request.body) };
    return { result: await manager.join(parse(joinRequest, request.body, 'join request')) };
  });
  app.post('/api/v1/beat', async (request) => {
    const manager = ports.manager();
    if (!manager) return { result: await forward(ports, '/api/v1/beat', request.body) };
    return { result: await manager.beat(parse(beatReport, request.body, 'beat')) };
  });
  app.post('/api/v1/whoami', async () => ({ result: ports.whoAmI() }));
  app.post('/api/v1/quit', async () => {
    const { nodeId } = ports.whoAmI();
    setImmediate(ports.quit);
    return { result: { nodeId } };
  });
  app.get('/health', async (_request, reply) => {
    const ready = ports.ready();
    return reply.status(ready ? 200 : 503).send({ ready });
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
