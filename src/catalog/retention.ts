import type { ClusterView, LoadView, NodeId, Partition, Settings } from './model.ts';
import { subscriptionName } from './names.ts';
import { connectedNodes, fedThrough } from './view.ts';

/**
 * How much of its disk a node may lose to others: to replicas that are copied to it, and to WAL that it keeps
 * for receivers which are slow, away or still copying. Everything here is a decision;
 * `operations/steps/room.ts` and `manager/wal-keeper.ts` carry it out.
 */

export interface Disk {
  readonly totalBytes: number;
  readonly freeBytes: number;
}

/** A replication slot as its sender sees it. */
export interface SlotState {
  /** WAL that the sender keeps for it, bytes. */
  readonly keptBytes: number;
  /**
   * What its receiver has not confirmed yet, bytes. Less than what is kept where a transaction of the sender
   * itself has been open for long.
   */
  readonly behindBytes: number;
  /** PostgreSQL has given it up: what its receiver lacks is not there any more. */
  readonly isLost: boolean;
}

/**
 * `low`: under `disk.margin`, takes no replica. `full`: nothing is copied there, and no slot may keep much
 * WAL.
 */
export type DiskState = 'ok' | 'low' | 'full';

const FULL_PERCENT = 5;
const MIB = 1 << 20;
const GIB = 1 << 30;

/** Null where the size of the disk is not known. */
export function diskOf(load: LoadView, node: NodeId): Disk | null {
  const known = load.nodes.get(node);
  if (!known || !(known.diskTotalBytes > 0)) return null;
  return { totalBytes: known.diskTotalBytes, freeBytes: known.diskFreeBytes };
}

export function freePercent({ totalBytes, freeBytes }: Disk): number {
  return Math.round((1000 * freeBytes) / totalBytes) / 10;
}

export function diskState(disk: Disk, settings: Settings): DiskState {
  const percent = (100 * disk.freeBytes) / disk.totalBytes;
  if (percent < Math.min(settings['disk.margin'], FULL_PERCENT)) return 'full';
  return percent < settings['disk.margin'] ? 'low' : 'ok';
}

/**
 * `max_slot_wal_keep_size` of a node, bytes: 16 GiB, or a quarter of a smaller disk, down to a power of two
 * (file systems that share a pool change their size all the time, and a new value restarts a server). The
 * last line of defence: PostgreSQL then gives up every slot that is further back, at its next checkpoint,
 * however many followers that costs.
 */
export function slotWalKeepBytes(diskTotalBytes: number): number {
  const quarter = 2 ** Math.floor(Math.log2(Math.max(1, diskTotalBytes / 4)));
  return Math.min(16 * GIB, Math.max(128 * MIB, quarter));
}

/**
 * What one move may make its source keep, bytes: the setting, and never more than half of what PostgreSQL
 * lets a slot keep there.
 */
export function moveCapBytes(settings: Settings, disk: Disk | null): number {
  return Math.min(settings['move.max_retained_wal'], slotWalKeepBytes(disk?.totalBytes ?? Infinity) / 2);
}

/**
 * How far a follower may be behind, bytes: the setting, and never more than three quarters of what PostgreSQL
 * lets a slot keep.
 */
function followerCapBytes(settings: Settings, disk: Disk | null): number {
  return Math.min(settings['follower.max_retained_wal'], (3 * slotWalKeepBytes(disk?.totalBytes ?? Infinity)) / 4);
}

/**
 * On a full disk, WAL worth getting back, bytes: a hundredth of the disk, two segments at least, 1 GiB at
 * most.
 */
export function worthFreeingBytes(disk: Disk): number {
  return Math.min(GIB, Math.max(32 * MIB, disk.totalBytes / 100));
}

/** A receiver that its sender has to stop feeding, or cannot feed any more. */
export interface Cut {
  readonly to: NodeId;
  readonly why: 'behind' | 'disk-full' | 'lost';
  readonly behindBytes: number;
  /** What the sender leads and the receiver follows: stale from here on. */
  readonly partitions: readonly Partition[];
}

/**
 * Receivers of `node` to be cut, by its slots. A partition keeps its last follower in step where nothing may
 * be acknowledged without one (`durability` quorum, unless `quorum_lost` is allow): rather PostgreSQL's own
 * limit than acknowledging on the leader alone. A slot that is held back by an open transaction of the node
 * itself costs no receiver its replicas: it has what there is.
 */
export function receiversToCut(
  view: ClusterView,
  node: NodeId,
  disk: Disk | null,
  slots: ReadonlyMap<string, SlotState>,
): Cut[] {
  const isFull = disk !== null && diskState(disk, view.settings) === 'full';
  const capBytes = followerCapBytes(view.settings, disk);
  const cuts: Cut[] = [];
  for (const { id: to } of connectedNodes(view)) {
    if (to === node) continue;
    const partitions = fedThrough(view, node, to);
    const slot = slots.get(subscriptionName(node, to));
    if (!slot || slot.isLost) {
      if (partitions.length > 0) cuts.push({ to, why: 'lost', behindBytes: 0, partitions });
      continue;
    }
    const why = slot.behindBytes > capBytes ? 'behind' : 'disk-full';
    const worth = why === 'behind' || (isFull && slot.behindBytes > worthFreeingBytes(disk));
    if (worth && !partitions.some((p) => mustKeep(view, p, to)))
      cuts.push({ to, why, behindBytes: slot.behindBytes, partitions });
  }
  return cuts;
}

/**
 * WAL that is kept for an open transaction of the node itself, bytes; 0 where that is within what followers
 * may have kept.
 */
export function heldByTransactionBytes(settings: Settings, disk: Disk | null, slots: Iterable<SlotState>): number {
  const capBytes = followerCapBytes(settings, disk);
  const held = [...slots].filter((s) => s.keptBytes > capBytes && s.behindBytes <= capBytes).map((s) => s.keptBytes);
  return Math.max(0, ...held);
}

function mustKeep({ settings }: ClusterView, { leader, replicas }: Partition, follower: NodeId): boolean {
  if (settings.durability !== 'quorum' || settings.quorum_lost === 'allow') return false;
  return !replicas.some((r) => r.state === 'ready' && r.node !== leader && r.node !== follower);
}
