import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { type Duplex, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { BODY_BYTES_MAX } from '../api/client.ts';
import { type ErrorCode, messageOf, TideError, tideError } from '../core/errors.ts';
import { Arriving, Connections, isTooDeep, Turns } from './http-load.ts';
import { refusalOf } from './http-strangers.ts';

export interface HttpServerOptions {
  /** In small letters: the names under which this node is reached, beside addresses. */
  names: ReadonlySet<string>;
  log(level: 'error', message: string, facts: object): void;
  /**
   * Takes connections that came with CONNECT, by the same rules as every request. Without it they are closed.
   */
  onConnect?(request: IncomingMessage, socket: Duplex): void;
}

/** Of the listen port and the HTTP port together. */
const CONNECTIONS_MAX = 512;
/** Bodies longer than this, on their way at once. */
const LONG_BYTES = 64 << 10;
const ARRIVING_MAX = 64;
/** Whoever has a request says it in this time; who answers may take longer. */
const HEADERS_MS = 10_000;
const REQUEST_MS = 30_000;
const KEEP_ALIVE_MS = 5_000;
/** Neither side has said a word for longer than any command takes. */
const SILENT_MS = 180_000;
const LOOK_MS = 1_000;
const LINGER_MS = 2_000;
/** What is shorter is parsed in less time than it takes to wait for a turn. */
const TURN_BYTES = 16 << 10;

const STATUS: Partial<Record<ErrorCode, number>> = {
  FOREIGN_HOST: 421,
  FOREIGN_ORIGIN: 403,
  NOT_JSON: 415,
  BODY_TOO_LARGE: 413,
  ROUTE_UNKNOWN: 404,
  INTERNAL: 500,
};

export interface RouteConfig {
  /** It is not held up by others. */
  first?: boolean;
  /** Its bodies may be so long that only one is taken at a time. */
  large?: boolean;
}

/**
 * An HTTP server without routes: it answers no web page of a stranger, reads no body that is longer than its
 * route takes, gives nobody for ever to say what they want, and answers every failure with an error of the
 * catalogue. `config` of its routes: `RouteConfig`.
 */
export function createHttpServer({ names, log, onConnect }: HttpServerOptions): { app: FastifyInstance; turns: Turns } {
  const app = Fastify({
    bodyLimit: BODY_BYTES_MAX,
    forceCloseConnections: true,
    requestTimeout: REQUEST_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionTimeout: SILENT_MS,
    http: { headersTimeout: HEADERS_MS, connectionsCheckingInterval: LOOK_MS },
    clientErrorHandler: (error, socket) => answerRaw(socket, error),
    frameworkErrors: (error, _request, reply: FastifyReply) =>
      reply.status(400).send({ error: asTideError(error).toBody() }),
  });
  const turns = new Turns();
  const arriving = new Arriving(ARRIVING_MAX);
  const connections = new Connections(CONNECTIONS_MAX);
  let isLarge = false;
  const holdLarge = (answer: { once(event: 'close', listener: () => void): unknown }) => {
    if (isLarge) throw tideError('NODE_BUSY', { requests: 1 });
    isLarge = true;
    answer.once('close', () => {
      isLarge = false;
    });
  };
  app.server.on('connection', (socket: Socket) => connections.add(socket));
  if (onConnect) takeConnects(app, names, connections, onConnect);
  app.addHook('onRequest', async (request, reply) => {
    const refusal = refusalOf(request.method, request.headers, names);
    if (refusal) throw refusal;
    reply.header('x-content-type-options', 'nosniff').header('cache-control', 'no-store');
    const { first, large } = configOf(request);
    if (large) holdLarge(reply.raw);
    else if (!first && isLong(request)) arriving.add(request.raw);
  });
  app.addHook('preHandler', async (request, reply) => {
    connections.whileAnswering(request.raw.socket, reply.raw);
    if (request.method === 'POST' && !request.is404) requireObject(request.body);
  });
  takeJsonOnly(app, turns);
  app.setErrorHandler((error, request, reply) => {
    const known = asTideError(error, request.routeOptions.bodyLimit);
    if (known.code === 'INTERNAL')
      log('error', 'a request failed', { path: request.url, error: (error as Error).stack ?? messageOf(error) });
    const status = STATUS[known.code] ?? (known.retry === 'later' ? 503 : 400);
    const body = JSON.stringify({ error: known.toBody() });
    reply.status(status).type('application/json').header('content-length', Buffer.byteLength(body));
    return reply.send(request.raw.complete ? body : Readable.from(untilSaid(body, request.raw)));
  });
  app.setNotFoundHandler((request) => {
    throw tideError('ROUTE_UNKNOWN', { method: request.method, path: request.url.slice(0, 100) });
  });
  return { app, turns };
}

/**
 * No hook sees CONNECT. The connection goes on to count, and is not closed for others: who has it asks
 * something.
 */
function takeConnects(
  app: FastifyInstance,
  names: ReadonlySet<string>,
  connections: Connections,
  onConnect: (request: IncomingMessage, socket: Duplex) => void,
): void {
  app.server.on('connect', (request: IncomingMessage, socket: Socket) => {
    const refusal = refusalOf('GET', request.headers, names);
    if (refusal) {
      socket.on('error', () => socket.destroy());
      endRaw(socket, `${STATUS[refusal.code] ?? 400} Refused`, refusal);
      return;
    }
    connections.whileAnswering(socket, socket);
    socket.setTimeout(0);
    onConnect(request, socket);
  });
}

/** Of those so many are taken at once that it matters how long they are on their way. */
function isLong({ headers }: FastifyRequest): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > LONG_BYTES;
}

function configOf(request: FastifyRequest): RouteConfig {
  return request.routeOptions.config as RouteConfig;
}

/**
 * An answer to somebody who still speaks. Were the connection closed at once, what has not been read would
 * have the system tear it down, and them miss the answer; so what they say is thrown away for a moment.
 */
async function* untilSaid(body: string, request: IncomingMessage): AsyncGenerator<string> {
  yield body;
  request.resume();
  await Promise.race([once(request, 'end'), once(request, 'close'), sleep(LINGER_MS)]).catch(() => {});
}

function takeJsonOnly(app: FastifyInstance, turns: Turns): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, async (request: FastifyRequest, body: Buffer) => {
    if (request.is404) return null;
    if (body.length > TURN_BYTES && !configOf(request).first) await turns.next();
    if (isTooDeep(body)) throw tideError('BAD_REQUEST', { what: 'request', why: 'its JSON is nested too deeply' });
    return new Promise((resolve, reject) => {
      void parse(request, body.toString(), (error, value) => (error ? reject(error) : resolve(value)));
    });
  });
}

function requireObject(body: unknown): void {
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) return;
  throw tideError('BAD_REQUEST', { what: 'request', why: 'its body has to be a JSON object' });
}

function asTideError(error: unknown, bytesMax = BODY_BYTES_MAX): TideError {
  if (error instanceof TideError) return error;
  const { statusCode = 500, code } = error as { statusCode?: number; code?: string };
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') return tideError('BODY_TOO_LARGE', { bytesMax }, error);
  if (statusCode < 500) return tideError('BAD_REQUEST', { what: 'request', why: messageOf(error) });
  return tideError('INTERNAL', { why: messageOf(error) }, error);
}

/** Of what is no HTTP, or has not come in time. */
const RAW_STATUS: Readonly<Record<string, string>> = {
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
};

function answerRaw(socket: Socket, failure: Error & { code?: string }): void {
  if (failure.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const status = RAW_STATUS[failure.code ?? ''] ?? '400 Bad Request';
  endRaw(socket, status, tideError('BAD_REQUEST', { what: 'request', why: messageOf(failure) }));
}

function endRaw(socket: Socket, status: string, error: TideError): void {
  const body = JSON.stringify({ error: error.toBody() });
  const head = ['content-type: application/json', `content-length: ${Buffer.byteLength(body)}`, 'connection: close'];
  socket.end(`HTTP/1.1 ${status}\r\n${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroySoon());
}
