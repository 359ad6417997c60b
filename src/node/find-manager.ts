import { whoIs } from '../api/http-client.ts';
import type { Identity } from './identity.ts';

const ANSWER_MS = 1_000;
const SEARCH_MS = 5_000;

/**
 * HOST:PORT of the node that says of itself that it manages; null where none of this cluster does. What
 * others say of it is only where to ask next: one that has given the meta store away, or has been away, may
 * have heard of nothing newer. `own`: this node, which is not asked.
 */
export async function findManager(
  addresses: readonly string[],
  { clusterId, own }: { clusterId: string; own: string },
): Promise<string | null> {
  const untilMs = performance.now() + SEARCH_MS;
  const toAsk = [...addresses];
  const asked = new Set([own]);
  while (performance.now() < untilMs) {
    const address = toAsk.shift();
    if (address === undefined) break;
    if (asked.has(address)) continue;
    asked.add(address);
    const found = await whoIs(address, { timeoutMs: ANSWER_MS }).catch(() => null);
    if (found?.clusterId !== clusterId) continue;
    if (found.manager === address) return address;
    toAsk.unshift(found.manager);
  }
  return null;
}

/**
 * Looks for the manager of the embedded meta store that this node has lost sight of, and remembers where it
 * is.
 */
export async function seekManager(known: Identity, isSettled: () => boolean): Promise<void> {
  const isLooking = () => isSettled() && known.required.meta === null && known.required.metaFrom === null;
  if (!isLooking()) return;
  const { clusterId, advertiseAddress: own, manager, peers } = known.required;
  const found = await findManager([manager, ...peers], { clusterId, own });
  if (found !== null && isLooking()) await known.remember({ manager: found });
}
