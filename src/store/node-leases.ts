import type { SharedStore, Write } from './meta-store.ts';

/**
 * What nodes say of themselves in a shared store: `/lease/3` lives while node 3 renews its lease, without which it lets nobody in; `/leased/3`
 * says for good that it keeps this rule. A node that has not come to it yet serves without a lease: its missing key proves nothing.
 */
const LEASES = '/lease/';
const leaseKey = (node: number) => `${LEASES}${node}`;
const ruleKey = (node: number) => `/leased/${node}`;

/** To be written when the node has got `lease`. */
export function leaseWrites(node: number, lease: string): Write[] {
  return [
    { put: leaseKey(node), value: { lease }, lease },
    { put: ruleKey(node), value: true },
  ];
}

/** True where the node keeps the rule and has no lease: it has fenced itself, or is gone. */
export async function hasNoLease(store: Pick<SharedStore, 'get'>, node: number): Promise<boolean> {
  if ((await store.get(ruleKey(node))) === null) return false;
  return (await store.get(leaseKey(node))) === null;
}

/** The nodes that can reach the store: any of them could manage. */
export async function leasedNodes(store: Pick<SharedStore, 'range'>): Promise<number[]> {
  return (await store.range(LEASES)).map((e) => Number(e.key.slice(LEASES.length)));
}
