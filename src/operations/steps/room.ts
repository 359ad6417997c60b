import type { NodeId } from '../../catalog/model.ts';
import { diskOf, diskState, freePercent, moveCapBytes, worthFreeingBytes } from '../../catalog/retention.ts';
import { tideError } from '../../core/errors.ts';
import { humanBytes } from '../../core/units.ts';
import type { CopyData } from '../data.ts';
import { again, giveUp, type StepContext, type StepResult } from '../operation.ts';
import { waitFor } from '../waiting.ts';

/** What a copy costs the disks at both ends, and when that is too much. */

/** A copy that has not begun waits this long for room on its target, then it is given up. */
const ROOM_WAIT_MS = 600_000;

/**
 * Null where the target has room for a copy to begin; else what to wait for, and in the end the giving up.
 * Nothing is kept for it meanwhile.
 */
export async function awaitRoom(c: StepContext<unknown, CopyData>, node: NodeId): Promise<StepResult | null> {
  const full = fullDisk(c, node);
  if (full === null) return null;
  const sinceMs = c.data.noRoomSinceMs ?? c.clock.nowMs();
  if (c.data.noRoomSinceMs === undefined) await c.remember({ noRoomSinceMs: sinceMs });
  if (c.clock.nowMs() - sinceMs > ROOM_WAIT_MS) return giveUp(tideError('DISK_FULL', { node, freePercent: full }));
  return again(1_000, waitFor('disk', `node ${node} has ${full} % of its disk left: the copy waits for room`, node));
}

/**
 * A copy that runs cannot be paused: PostgreSQL would fill the disk to the end. Taken back, it gives back
 * what it has taken.
 */
export function requireRoom(c: StepContext<unknown>, node: NodeId): StepResult | null {
  const full = fullDisk(c, node);
  return full !== null ? giveUp(tideError('DISK_FULL', { node, freePercent: full })) : null;
}

/** Free share, percent, of a disk that is full; null of any other. */
function fullDisk(c: StepContext<unknown>, node: NodeId): number | null {
  const disk = diskOf(c.load, node);
  return disk && diskState(disk, c.view.settings) === 'full' ? freePercent(disk) : null;
}

/**
 * WAL that the source keeps for the copy and its catching up: over the cap, or on a full disk, the copy goes,
 * not the source. Asked of the source alone: a target that has gone silent is when it grows.
 */
export async function requireLittleWal(
  c: StepContext<unknown>,
  from: NodeId,
  to: NodeId,
  copySlot: string | null,
): Promise<StepResult | null> {
  const keptBytes = await c.plane.slots.keptWal(from, to, copySlot);
  const disk = diskOf(c.load, from);
  const capBytes = moveCapBytes(c.view.settings, disk);
  const isFull = disk !== null && diskState(disk, c.view.settings) === 'full';
  const kept = humanBytes(keptBytes);
  if (keptBytes > capBytes) {
    const why = `more than the ${humanBytes(capBytes)} that a move may cost it (move.max_retained_wal)`;
    return giveUp(tideError('WAL_RETAINED', { node: from, to, kept, why }));
  }
  if (isFull && keptBytes > worthFreeingBytes(disk)) {
    const why = `and has ${freePercent(disk)} % of its disk left`;
    return giveUp(tideError('WAL_RETAINED', { node: from, to, kept, why }));
  }
  return null;
}
