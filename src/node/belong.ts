import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeFacts, WhoAmI } from '../api/membership.ts';
import type { StartOptions } from '../api/start-options.ts';
import { must } from '../core/assert.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { unfinished } from '../store/migration.ts';
import { findManager } from './find-manager.ts';
import { askAny, join } from './heartbeat.ts';
import type { Identity } from './identity.ts';
import type { SharedPorts } from './manager-handle.ts';
import { leaderIn } from './seat.ts';
import { FIRST_FORMAT, type NodeIdentity, requireSameCluster, type StoreDir } from './store-dir.ts';
import { formatAddress, parseAddress } from './tcp-address.ts';

const JOIN_TRIES_MS = 10_000;

type Place = Pick<NodeIdentity, 'nodeId' | 'clusterId' | 'manager' | 'meta'>;

/**
 * The node that `--join` reaches. A new node needs one, unless `--meta` says where the cluster is; a
 * restarted one only has to be told where the manager is now. Addresses that nodes of its cluster have given
 * up may be another cluster's by now: they are passed over, unless `--join` leads to nothing else. What
 * `--meta` names has to be the same cluster. `own`: HOST:PORT of this node, which is not asked.
 */
export async function findCluster(
  store: StoreDir,
  identity: NodeIdentity | null,
  options: StartOptions,
  own: string,
  shared: SharedPorts,
): Promise<WhoAmI | null> {
  const check = await clusterCheck(store, identity, options, shared);
  const known = identity === null || identity.metaHome ? [] : [identity.manager, ...identity.peers];
  const full = (address: string) => formatAddress(parseAddress('--join', address, 26_257));
  const told = options.join.filter((a) => a !== own).map(full);
  const addresses = [...told, ...known.filter((a) => a !== own).map(full)];
  if (addresses.length === 0) return null;
  const untilMs = performance.now() + (identity ? 0 : JOIN_TRIES_MS);
  for (;;) {
    let stranger: WhoAmI | null = null;
    try {
      const found = await askAny(addresses, (found, address) => {
        const isTold = told.includes(address);
        if (identity === null || found.clusterId === identity.clusterId) return isTold || stranger === null;
        if (isTold) stranger ??= found;
        return false;
      });
      check(found.clusterId);
      if (identity === null || identity.metaHome || found.meta !== null) return found;
      return { ...found, manager: await managerBehind(found, identity, addresses, own) };
    } catch (error) {
      if (stranger !== null) check((stranger as WhoAmI).clusterId);
      if (error instanceof TideError && error.code !== 'UNREACHABLE') throw error;
      if (performance.now() < untilMs) {
        await sleep(500);
        continue;
      }
      if (identity) return null;
      throw tideError('JOIN_UNREACHABLE', { addresses: options.join.join(', '), why: messageOf(error) }, error);
    }
  }
}

/**
 * The node that answers may have heard less than this one has noted: that it gave the meta store away, and to
 * which.
 */
async function managerBehind(
  { manager: told, clusterId }: WhoAmI,
  { manager: noted }: NodeIdentity,
  addresses: readonly string[],
  own: string,
): Promise<string> {
  const manager = await findManager([noted, told, ...addresses], { clusterId, own });
  return manager ?? (told === own ? noted : told);
}

/** What a cluster that `--join` reaches has to be: the node's own, and what `--meta` names. */
async function clusterCheck(
  store: StoreDir,
  identity: NodeIdentity | null,
  { meta }: StartOptions,
  shared: SharedPorts,
): Promise<(clusterId: string) => void> {
  const own = (clusterId: string) => {
    if (identity) requireSameCluster(store, identity, clusterId);
  };
  if (meta === undefined) return own;
  if (identity?.metaHome) throw tideError('META_EMBEDDED', { path: store.root });
  const there = (await shared.look(shared.open(meta)))?.clusterId ?? 'none';
  if (identity) own(there);
  return (clusterId) => {
    own(clusterId);
    if (clusterId !== there) throw tideError('META_NOT_EMPTY', { url: meta, found: `cluster ${there}` });
  };
}

export interface PlaceOptions {
  identity: Identity;
  facts: NodeFacts;
  /** HOST:PORT */
  listenAddress: string;
  /** The node that has been found of the cluster. */
  peer: WhoAmI | null;
  /** Finds one anew, as `findCluster`. */
  find(): Promise<WhoAmI | null>;
  options: StartOptions;
  shared: SharedPorts;
}

/**
 * Begins a cluster, joins one, or takes up the old place in one: what the node is from now on is in its store
 * when this returns. URL of the meta store where it is shared; null: it is embedded.
 */
export async function takePlace(of: PlaceOptions): Promise<string | null> {
  const { identity, facts, listenAddress, peer, find, options, shared } = of;
  const begun = identity.value ?? (await firstIdentity(facts, peer, find, options, shared));
  const meta = options.meta ?? peer?.meta ?? begun.meta;
  await identity.begin({
    ...begun,
    listenAddress,
    advertiseAddress: facts.address,
    httpAddress: facts.httpAddress,
    postgresPort: facts.postgresPort,
    ...(peer ? { manager: peer.manager } : {}),
    ...(begun.metaHome ? { manager: facts.address } : {}),
    ...(meta === null ? {} : { meta, metaHome: false }),
  });
  return meta;
}

/** What a node is that has never been one: given by the cluster it joins, or the first of a new one. */
async function firstIdentity(
  facts: NodeFacts,
  peer: WhoAmI | null,
  find: () => Promise<WhoAmI | null>,
  options: StartOptions,
  shared: SharedPorts,
): Promise<NodeIdentity> {
  const base: Omit<NodeIdentity, 'nodeId' | 'clusterId' | 'manager'> = {
    formatVersion: FIRST_FORMAT,
    startMode: facts.startMode,
    state: 'member',
    metaHome: false,
    meta: null,
    metaFrom: null,
    peers: [],
    listenAddress: '',
    advertiseAddress: facts.address,
    httpAddress: facts.httpAddress,
    postgresPort: facts.postgresPort,
  };
  const place = peer
    ? await joinCluster(facts, peer.manager, async () => (await find())?.manager)
    : await placeInShared(facts, options, shared);
  if (place) return { ...base, ...place };
  return { ...base, nodeId: 1, clusterId: randomUUID(), metaHome: true, manager: facts.address };
}

/** Joins through the manager, wherever `findManager` says it is when it has moved. */
async function joinCluster(
  facts: NodeFacts,
  manager: string,
  findManager: () => Promise<string | undefined>,
): Promise<Place> {
  const { nodeId, clusterId, manager: now, meta } = await join(facts, manager, findManager, JOIN_TRIES_MS);
  return { nodeId, clusterId, manager: now, meta };
}

/**
 * A new node's place in the cluster that `--meta` leads to: the first in one that it founds there, else given
 * by the manager. Null without `--meta`. Throws META_NOT_FOUNDED where another node has begun to found it,
 * NO_MANAGER_ELECTED where nobody lets it in.
 */
async function placeInShared(
  facts: NodeFacts,
  { meta, minNodes }: StartOptions,
  shared: SharedPorts,
): Promise<Place | null> {
  if (meta === undefined) return null;
  const store = shared.open(meta);
  if ((await shared.look(store)) === null) {
    if (await unfinished(store)) throw tideError('META_MOVING', { to: meta });
    const { startMode, address: founder } = facts;
    await shared.found(store, {
      clusterId: randomUUID(),
      startMode,
      founder,
      ...(minNodes === undefined ? {} : { minNodes }),
    });
  }
  const cluster = must(await shared.look(store), 'the cluster that was founded');
  if (!cluster.hasMembers) {
    // Also after a crash in the middle of it: nobody else may be node 1.
    if (cluster.founder === facts.address)
      return { nodeId: 1, clusterId: cluster.clusterId, manager: facts.address, meta };
    throw tideError('META_NOT_FOUNDED', { url: meta, founder: cluster.founder ?? 'another address' });
  }
  const untilMs = performance.now() + JOIN_TRIES_MS;
  let leader = await leaderIn(store);
  while (leader === null) {
    if (performance.now() > untilMs) throw tideError('NO_MANAGER_ELECTED', { why: `nobody has the seat in ${meta}` });
    await sleep(200);
    leader = await leaderIn(store);
  }
  const place = await joinCluster(facts, leader, async () => (await leaderIn(store)) ?? undefined);
  return { ...place, meta };
}
