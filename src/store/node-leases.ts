import type { MetaStore } from './meta-store.ts';

/**
 * What nodes say of themselves in a shared store: `/lease/3` lives while node 3 renews its lease, without
 * which it lets nobody in; `/leased/3` says for good that it keeps this rule. A node that has not come to it
 * yet serves without a lease: its missing key proves nothing.
 */
const LEASES = '/lease/';
const leaseKey = (node: number) => `${LEASES}${node}`;
const ruleKey = (node: number) => `/leased/${node}`;

/**
 * Whose lease it is: a node's start. Null: it has none; `start` is null where a program of version 0.1 has
 * taken it.
 */
export async function leaseHolder(
  store: Pick<MetaStore, 'get'>,
  node: number,
): Promise<{ start: string | null; revision: number } | null> {
  const found = await store.get(leaseKey(node));
  if (found === null) return null;
  const { start = null } = found.value as { start?: string };
  return { start, revision: found.revision };
}

/**
 * When the node has got `lease` for one of its starts. False where somebody else has changed it since
 * `revision` (0: there was none).
 */
export async function putLease(
  store: MetaStore,
  { node, start, lease, revision }: { node: number; start: string; lease: string; revision: number },
): Promise<boolean> {
  const key = leaseKey(node);
  const write = [
    { put: key, value: { lease, start }, lease },
    { put: ruleKey(node), value: true },
  ];
  return (await store.txn({ when: [{ key, revision }], write })).ok;
}

/**
 * `gone`: the node keeps the rule and has no lease, so it has fenced itself or does not run. `none`: it does
 * not keep the rule.
 */
export type LeaseState = 'held' | 'gone' | 'none';

export async function leaseOf(store: Pick<MetaStore, 'get'>, node: number): Promise<LeaseState> {
  if ((await store.get(ruleKey(node))) === null) return 'none';
  return (await store.get(leaseKey(node))) === null ? 'gone' : 'held';
}

/** The nodes that can reach the store: any of them could manage. */
export async function leasedNodes(store: Pick<MetaStore, 'range'>): Promise<number[]> {
  return (await store.range(LEASES)).map((e) => Number(e.key.slice(LEASES.length)));
}
