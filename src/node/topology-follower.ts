import { setTimeout as sleep } from 'node:timers/promises';
import { topology } from '../api/http-client.ts';
import type { TopologyFeed } from './topology-feed.ts';

export interface FollowerPorts {
  clusterId: string;
  /** The manager runs in this process, and publishes what it has. */
  managesHere(): boolean;
  /** HOST:PORT. Throws where nobody manages. */
  managerAddress(): string;
}

/** How long the manager keeps a node waiting. Short: when it stops or freezes, the next is asked soon. */
export const FOLLOWER_WAIT_MS = 2_000;
const CALL_MS = 3_000;
const LOOK_MS = 250;

/**
 * Keeps this node's copy of the topology as the manager has it, until the returned function is called: one
 * call of each node is all that the manager has of all who poll.
 */
export function followTopology(feed: TopologyFeed, ports: FollowerPorts): () => Promise<void> {
  const ending = new AbortController();
  const { signal } = ending;
  const follow = async () => {
    while (!signal.aborted) {
      const isNewest = ports.managesHere();
      if (isNewest) feed.confirm();
      if (isNewest || !(await ask(feed, ports, signal))) await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
    }
  };
  const following = follow();
  return async () => {
    ending.abort();
    await following;
  };
}

/** False: the manager did not answer. The heartbeat tells of that. */
async function ask(feed: TopologyFeed, ports: FollowerPorts, signal: AbortSignal): Promise<boolean> {
  const options = { timeoutMs: CALL_MS, forwarded: true, cluster: ports.clusterId, signal };
  try {
    feed.take((await topology(ports.managerAddress(), feed.revision, options)).change);
    return true;
  } catch {
    return false;
  }
}
