import type { MetaStore, Write } from './meta-store.ts';

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

/** `gone`: the node keeps the rule and has no lease, so it has fenced itself or does not run. `none`: it does not keep the rule. */
export type LeaseState = 'held' | 'gone' | 'none';

export async function leaseOf(store: Pick<MetaStore, 'get'>, node: number): Promise<LeaseState> {
  if ((await store.get(ruleKey(node))) === null) return 'none';
  return (await store.get(leaseKey(node))) === null ? 'gone' : 'held';
}

/** The nodes that can reach the store: any of them could manage. */
export async function leasedNodes(store: Pick<MetaStore, 'range'>): Promise<number[]> {
  return (await store.range(LEASES)).map((e) => Number(e.key.slice(LEASES.length)));
}
