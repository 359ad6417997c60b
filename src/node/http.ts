import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { CallName, Calls } from '../api/calls.ts';
import { CALLER_CLUSTER, FORWARDED } from '../api/headers.ts';
import { activation, META_BYTES_MAX, metaCheck, metaPart, metaTransfer, type WhoAmI } from '../api/membership.ts';
import { tideError } from '../core/errors.ts';
import { type Asked, Conductor, type ConductorPorts } from './admin.ts';
import { Slots, type Turns } from './http-load.ts';
import { parse } from './http-parse.ts';
import { createHttpServer, type HttpServerOptions, type RouteConfig } from './http-server.ts';
import type { TopologyFeed } from './topology-feed.ts';
import { serveTopology } from './topology-route.ts';

export interface HttpPorts extends HttpServerOptions, ConductorPorts {
  whoAmI(): WhoAmI;
  topology: TopologyFeed;
  /** Throws what keeps this node from a shared meta store. */
  checkMeta(url: string): Promise<void>;
  /** Begins the end of this node. */
  quit(): void;
  ready(): boolean;
}

interface Route<N extends CallName> {
  answer(asked: Asked): Promise<Calls[N]['gets']>;
  readonly bodyLimit?: number;
  readonly config?: RouteConfig;
}

/**
 * Commands that are carried out at once: more than people and programs have under way, fewer than would stop
 * everything else.
 */
const COMMANDS_MAX = 64;
const FIRST = { config: { first: true } };
const LARGE = { bodyLimit: META_BYTES_MAX, config: { large: true } };

/**
 * The admin API, the same on the listen port and the HTTP port. Any node takes any command and hands it to
 * the manager. Beats go before everything else; of the rest so much is done at once that they can.
 */
export function createHttp(ports: HttpPorts): FastifyInstance {
  const { app, turns } = createHttpServer(ports);
  app.addHook('onRequest', async (request) => requireOwnCluster(ports.clusterId(), request));
  for (const [name, { answer, ...options }] of Object.entries(routesOf(ports, turns)))
    app.post(`/api/v1/${name}`, options, async ({ body, headers }) => ({
      result: await answer({ body, forwarded: headers[FORWARDED] !== undefined }),
    }));
  serveTopology(app, ports);
  app.get('/health', async (_request, reply) => {
    const ready = ports.ready();
    // Data is served all the same: no reason to take the node out of a load balancer.
    const full = ports.manager()?.storeIsFull ? { waitsFor: 'disk', why: 'the meta store has no room' } : {};
    return reply.status(ready ? 200 : 503).send({ ready, ...full });
  });
  return app;
}

function routesOf(ports: HttpPorts, turns: Turns): { readonly [N in CallName]: Route<N> } {
  const { mover } = ports;
  const conductor = new Conductor(ports);
  const commands = new Slots(COMMANDS_MAX);
  const inTurn = <T>(work: () => Promise<T>) =>
    commands.hold(async () => {
      await turns.next();
      return work();
    });
  return {
    admin: { answer: (asked) => inTurn(() => conductor.admin(asked)) },
    join: { answer: (asked) => inTurn(() => conductor.join(asked)) },
    start: { ...FIRST, answer: (asked) => conductor.start(asked) },
    beat: { ...FIRST, answer: (asked) => conductor.beat(asked) },
    'meta/part': {
      ...LARGE,
      answer: async ({ body }) => done(mover.receive(parse(metaPart, body, 'meta store'))),
    },
    'meta/receive': {
      ...LARGE,
      answer: async ({ body }) => done(mover.receiveWhole(parse(metaTransfer, body, 'meta store'))),
    },
    'meta/activate': { answer: async ({ body }) => done(mover.activate(parse(activation, body, 'activation').from)) },
    'meta/check': { answer: async ({ body }) => done(ports.checkMeta(parse(metaCheck, body, 'meta check').url)) },
    whoami: { answer: async () => ports.whoAmI() },
    quit: {
      answer: async () => {
        const { nodeId } = ports.whoAmI();
        setImmediate(ports.quit);
        return { nodeId };
      },
    },
  };
}

/** Where there is nothing to answer. */
async function done(work: Promise<void>): Promise<null> {
  await work;
  return null;
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
