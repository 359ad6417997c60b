import type { NodeId } from '../catalog/model.ts';
import type { Clock } from '../core/clock.ts';
import type { WaitReason } from '../core/wait-reason.ts';
import { type Estimate, estimate, type MovesSeen } from './estimate.ts';
import type { OperationRecord } from './operation.ts';
import { waitForAnswer } from './waiting.ts';

/** What is known of a running operation beside its journal record. */
export interface Live {
  /** As its step has said, else the answer that has been due for a while. */
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

/** What an operation asks of servers. */
export interface Question {
  /** `streams: start`. */
  readonly what: string;
  readonly nodes: readonly NodeId[];
}

/** Most answers come sooner, and are nothing to wait for. */
const ANSWER_DUE_MS = 3_000;

/** How far the operations that this manager runs have come, and what they wait for. */
export class Progress {
  readonly #clock: Clock;
  readonly #live = new Map<number, Live>();
  /** Without an answer yet, by operation, in the order in which they were asked. */
  readonly #open = new Map<number, Set<Question & { sinceMs: number }>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  begin({ id, bytesDone, bytesTotal }: OperationRecord): void {
    this.#live.set(id, { waitsFor: null, bytesDone, bytesTotal, since: null, estimate: null, left: null });
    this.#open.set(id, new Set());
  }

  end(id: number): void {
    this.#live.delete(id);
    this.#open.delete(id);
  }

  of(id: number): Live | undefined {
    const live = this.#live.get(id);
    return live && { ...live, waitsFor: live.waitsFor ?? this.#answerDue(id) };
  }

  waitsFor(id: number, reason: WaitReason | null): void {
    const live = this.#live.get(id);
    if (live) live.waitsFor = reason;
  }

  /** An answer that does not come is what the operation waits for, where its step has said nothing. */
  async asking<T>(id: number, question: Question, ask: () => Promise<T>): Promise<T> {
    const asked = { ...question, sinceMs: this.#clock.nowMs() };
    this.#open.get(id)?.add(asked);
    try {
      return await ask();
    } finally {
      this.#open.get(id)?.delete(asked);
    }
  }

  #answerDue(id: number): WaitReason | null {
    const [oldest] = this.#open.get(id) ?? [];
    if (!oldest) return null;
    const ms = this.#clock.nowMs() - oldest.sinceMs;
    return ms < ANSWER_DUE_MS ? null : waitForAnswer(oldest.nodes, oldest.what, ms);
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
