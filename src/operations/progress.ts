import type { Clock } from '../core/clock.ts';
import type { WaitReason } from '../core/wait-reason.ts';
import { type Estimate, estimate, type MovesSeen } from './estimate.ts';
import type { OperationRecord } from './operation.ts';

/** What is known of a running operation beside its journal record. */
export interface Live {
  waitsFor: WaitReason | null;
  bytesDone: number;
  bytesTotal: number;
  /** Samples for the rate: bytes and time. */
  since: { bytes: number; ms: number } | null;
  /** Of one that moves by a plan, and the moves that had yet to begin then. */
  estimate: Estimate | null;
  left: MovesSeen['left'] | null;
}

type Shown = Pick<OperationRecord, 'bytesDone' | 'bytesTotal' | 'percent'>;

/** How far the operations that this manager runs have come, and what they wait for. */
export class Progress {
  readonly #clock: Clock;
  readonly #live = new Map<number, Live>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  begin({ id, bytesDone, bytesTotal }: OperationRecord): void {
    this.#live.set(id, { waitsFor: null, bytesDone, bytesTotal, since: null, estimate: null, left: null });
  }

  end(id: number): void {
    this.#live.delete(id);
  }

  of(id: number): Live | undefined {
    return this.#live.get(id);
  }

  waitsFor(id: number, reason: WaitReason | null): void {
    const live = this.#live.get(id);
    if (live) live.waitsFor = reason;
  }

  /** The record with the bytes that have been moved by now. */
  counted(record: OperationRecord): OperationRecord {
    const live = this.#live.get(record.id);
    return live ? { ...record, bytesDone: live.bytesDone, bytesTotal: live.bytesTotal } : record;
  }

  /**
   * What is to be journaled, at every percent, so that the manager that comes next shows no less; null:
   * nothing.
   */
  toKeep(record: OperationRecord): Shown | null {
    const live = this.#live.get(record.id);
    if (!live) return null;
    const told = record.percent ?? -1;
    const percent = live.estimate && live.estimate.percent > told ? { percent: live.estimate.percent } : {};
    if (share(live) <= share(record) && percent.percent === undefined) return null;
    return { bytesDone: live.bytesDone, bytesTotal: live.bytesTotal, ...percent };
  }

  estimate(id: number, seen: Omit<MovesSeen, 'left'>, left: MovesSeen['left'] | null): void {
    const live = this.#live.get(id);
    if (!live) return;
    live.left = left ?? live.left;
    if (live.left) live.estimate = estimate({ ...seen, left: live.left });
  }

  /**
   * Neither bytes nor their share go backwards: a copy that starts anew is caught up with before the figure
   * moves again, and so is a source that grows faster than it is copied.
   */
  count(id: number, bytesDone: number, bytesTotal: number): void {
    const live = this.#live.get(id);
    if (!live) return;
    live.since ??= { bytes: live.bytesDone, ms: this.#clock.nowMs() };
    const done = Math.max(live.bytesDone, bytesDone);
    const most = live.bytesDone > 0 ? Math.floor((done * live.bytesTotal) / live.bytesDone) : bytesTotal;
    live.bytesTotal = Math.max(done, Math.min(bytesTotal, most));
    live.bytesDone = done;
  }
}

/** Whole percent of the bytes. */
function share({ bytesDone, bytesTotal }: Shown): number {
  return bytesTotal === 0 ? 0 : Math.floor((100 * bytesDone) / bytesTotal);
}
