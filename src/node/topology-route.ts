import type { FastifyInstance, FastifyReply } from 'fastify';
import { FORWARDED } from '../api/headers.ts';
import type { WhoAmI } from '../api/membership.ts';
import { TOPOLOGY_WAIT_MS, type TopologyAnswer, topologyQuery } from '../api/topology.ts';
import { tideError } from '../core/errors.ts';
import { Slots } from './http-load.ts';
import { parse } from './http-parse.ts';
import type { TopologyFeed } from './topology-feed.ts';
import { FOLLOWER_WAIT_MS } from './topology-follower.ts';

export interface TopologyRoutePorts {
  topology: TopologyFeed;
  /** The manager, where it runs in this process. */
  manager(): unknown;
  whoAmI(): Pick<WhoAmI, 'nodeId' | 'manager'>;
}

/**
 * Whoever waits keeps a connection, of which there are not so many (`http-server.ts`): beats and commands
 * have to find one.
 */
const POLLERS_MAX = 128;
const FOLLOWERS_MAX = 256;

/** Programs wait for this node's copy of the topology, nodes for the manager's own. */
export function serveTopology(app: FastifyInstance, ports: TopologyRoutePorts): void {
  const pollers = new Slots(POLLERS_MAX);
  const followers = new Slots(FOLLOWERS_MAX);
  app.get('/api/v1/topology', async (request, reply) => {
    const { after = null } = parse(topologyQuery, request.query, 'query');
    const poll = (waitMs: number) => ports.topology.poll(after, waitMs, whenGone(reply));
    const isFollower = request.headers[FORWARDED] !== undefined;
    const answer = isFollower
      ? await followers.hold(() => byManager(ports, () => poll(FOLLOWER_WAIT_MS)))
      : await pollers.hold(() => poll(TOPOLOGY_WAIT_MS));
    if (answer !== null) return { result: answer };
    const why = 'this node has not heard of the topology since it was started';
    throw tideError('NO_MANAGER', { manager: ports.whoAmI().manager, why });
  });
}

/** Two nodes that take each other for the manager must not take each other's copies for its word. */
async function byManager(
  { manager, whoAmI }: TopologyRoutePorts,
  poll: () => Promise<TopologyAnswer | null>,
): Promise<TopologyAnswer | null> {
  const answer = manager() === null ? null : await poll();
  if (manager() === null) throw tideError('MANAGER_LOST', { node: whoAmI().nodeId });
  return answer;
}

function whenGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  return gone.signal;
}
