import type { CatalogChange } from '../catalog/change.ts';
import type { ClusterView, LoadView, NodeId } from '../catalog/model.ts';
import type { ApplyError } from '../core/apply-error.ts';
import { must } from '../core/assert.ts';
import type { Clock } from '../core/clock.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import type { WaitReason } from '../core/wait-reason.ts';
import { adoptSteps } from './adopt.ts';
import { type Estimate, estimate, type MovesSeen } from './estimate.ts';
import type { Journal } from './journal.ts';
import { advance, hasEnded, type OperationEvent } from './machine.ts';
import type { Claim, OperationKind, OperationRecord, PauseRecord, Step, StepContext, StepResult } from './operation.ts';
import type { DataPlane, PartitionRef } from './ports.ts';
import { QuorumKeeper } from './quorum-keeper.ts';
import { forgettable } from './retention.ts';
import { waitFor } from './waiting.ts';

/** Everything the runner needs from outside: time, chance, the catalog and the servers. */
export interface RunnerPorts {
  clock: Clock;
  random: () => number;
  plane: DataPlane;
  view(): ClusterView;
  load(): LoadView;
  alive(node: NodeId): boolean;
  copyFailure(from: NodeId, to: NodeId, ref: PartitionRef): ApplyError | undefined;
  commit(changes: CatalogChange[]): Promise<void>;
  event(entry: { kind: string; text: string; node?: NodeId; operation?: number }): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

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

/** A step that fails for a reason that is not known to pass is tried this often before the operation is undone. */
const ATTEMPTS_MAX = 5;
const RETRY_MS = 500;
const RETRY_MS_MAX = 10_000;
/** How often a record is tried to be written that the meta store had no room for. */
const ROOM_MS = 1_000;

/**
 * Runs operations: one loop owns admission, retry, undo and the journal; it never names a step. Whatever a step does has been journaled
 * before, and a restarted manager goes on from the record (`resume`).
 */
export class Runner {
  /** The one that sets the nodes' quorums: it alone knows what running operations demand. */
  readonly quorums: QuorumKeeper;
  readonly #journal: Journal;
  readonly #ports: RunnerPorts;
  readonly #kinds: ReadonlyMap<string, OperationKind<unknown>>;
  readonly #live = new Map<number, Live>();
  readonly #wake = new Map<number, AbortController>();
  readonly #loops = new Set<Promise<void>>();
  readonly #admissions = new KeyedMutex();
  #stopped = false;

  constructor(journal: Journal, kinds: ReadonlyMap<string, OperationKind<unknown>>, ports: RunnerPorts) {
    this.#journal = journal;
    this.#kinds = kinds;
    this.#ports = ports;
    this.quorums = new QuorumKeeper({ ...ports, running: () => this.unended() });
  }

  /** Takes up everything that had not ended when the last manager did. What has been submitted to this one runs already. */
  resume(): void {
    for (const record of this.unended()) if (!this.#live.has(record.id)) this.#launch(record.id);
  }

  /** Lets go of all operations where they are; the journal has them. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const controller of this.#wake.values()) controller.abort();
    await Promise.allSettled(this.#loops);
  }

  get(id: number): OperationRecord | undefined {
    return this.#journal.get(id);
  }

  /** Throws OP_UNKNOWN, or OP_FORGOTTEN where it has ended and is kept no more. */
  known(id: number): OperationRecord {
    const record = this.get(id);
    if (record) return record;
    if (!this.#journal.isForgotten(id)) throw tideError('OP_UNKNOWN', { id });
    const { settings } = this.#ports.view();
    throw tideError('OP_FORGOTTEN', {
      id,
      count: settings['operations.keep_count'],
      seconds: settings['operations.keep_for'],
    });
  }

  /** Forgets the operations that have ended and are to be kept no more. */
  async forgetOld(): Promise<void> {
    const { settings } = this.#ports.view();
    await this.#journal.forget(forgettable(this.#journal.all(), settings, this.#ports.clock.nowMs()));
  }

  all(): OperationRecord[] {
    return this.#journal.all();
  }

  live(id: number): Live | undefined {
    return this.#live.get(id);
  }

  kindOf(record: OperationRecord): OperationKind<unknown> {
    return must(this.#kinds.get(record.kind), `operation kind ${record.kind}`);
  }

  unended(): OperationRecord[] {
    return this.#journal.all().filter((r) => !hasEnded(r));
  }

  /** The unended operation that holds a lock, queued ones included. */
  holderOf(lock: string): OperationRecord | undefined {
    return this.unended().find((r) => this.kindOf(r).locks(r.input).includes(lock));
  }

  /** Journals a new operation, with facts its steps may need, and starts its loop. */
  async submit(kind: string, input: object, parent: number | null = null, data: object = {}): Promise<OperationRecord> {
    const definition = must(this.#kinds.get(kind), `operation kind ${kind}`);
    const record = await this.#journal.append((id) => ({
      id,
      parent,
      kind,
      input: input as Record<string, unknown>,
      subject: definition.subject(input, this.#ports.view()),
      status: 'queued',
      steps: stepNames(definition),
      step: 0,
      passedNoReturn: false,
      cancelRequested: false,
      data: data as Record<string, unknown>,
      claims: [],
      pauses: [],
      createdMs: this.#ports.clock.nowMs(),
      startedMs: null,
      endedMs: null,
      bytesDone: 0,
      bytesTotal: 0,
      error: null,
    }));
    this.#launch(record.id);
    return record;
  }

  /**
   * Asks an operation to undo itself. Throws OP_UNKNOWN, OP_FORGOTTEN, OP_ENDED or OP_PAST_NO_RETURN. A step that may have passed the point of no
   * return already is asked first (`done`), in the operation's own loop.
   */
  async cancel(id: number): Promise<OperationRecord> {
    const record = this.known(id);
    if (hasEnded(record)) throw tideError('OP_ENDED', { id, status: record.status });
    if (record.passedNoReturn) {
      const step = this.kindOf(record).steps[record.step]?.name ?? 'last';
      throw tideError('OP_PAST_NO_RETURN', { id, step });
    }
    const asked = await this.#journal.update(id, (r) => ({ ...r, cancelRequested: true }));
    this.#wake.get(id)?.abort();
    return asked;
  }

  #launch(id: number): void {
    const loop = this.#drive(id)
      .catch((error) => {
        if (!this.#stopped)
          this.#ports.log('error', 'operation loop ended', { operation: id, error: messageOf(error) });
      })
      .finally(() => {
        this.#loops.delete(loop);
        this.#live.delete(id);
        this.#wake.delete(id);
      });
    this.#loops.add(loop);
  }

  #record(id: number): OperationRecord {
    return must(this.#journal.get(id), `operation ${id}`);
  }

  async #apply(id: number, event: OperationEvent): Promise<void> {
    const live = this.#live.get(id);
    if (live) live.waitsFor = null;
    const next = await this.#journal.update(id, (record) => {
      const counted = live ? { ...record, bytesDone: live.bytesDone, bytesTotal: live.bytesTotal } : record;
      return advance(counted, event, this.#ports.clock.nowMs());
    });
    if (hasEnded(next)) {
      const why = next.error ? `: ${next.error.message}` : '';
      await this.#ports.event({
        kind: `operation-${next.status}`,
        text: `${next.kind} ${next.subject}${why}`,
        operation: id,
      });
    }
  }

  async #drive(id: number): Promise<void> {
    const first = this.#record(id);
    const { bytesDone, bytesTotal } = first;
    this.#live.set(id, { waitsFor: null, bytesDone, bytesTotal, since: null, estimate: null, left: null });
    const names = stepNames(this.kindOf(first));
    if (adoptSteps(first, names) !== first) await this.#journal.update(id, (record) => adoptSteps(record, names));
    let failures = 0;
    for (;;) {
      const record = this.#record(id);
      if (this.#stopped || hasEnded(record)) return;
      try {
        failures = await this.#turn(record, failures);
      } catch (error) {
        if (this.#stopped) return;
        if (!isMetaFull(error)) throw error;
        // What was not written down has not happened; whatever the step did in the world, `done` finds it.
        await this.#pauseFor(id, ROOM_MS, waitFor('disk', error.message));
      }
    }
  }

  /** One look at an operation that has not ended. Gives how often in a row its step has failed. */
  async #turn(record: OperationRecord, failures: number): Promise<number> {
    if (record.status === 'queued') {
      await this.#admit(record);
      return 0;
    }
    const step = must(this.kindOf(record).steps[record.step], `step ${record.step} of operation ${record.id}`);
    try {
      if (record.status === 'undoing') await this.#undoStep(record, step);
      else await this.#runStep(record, step);
      return 0;
    } catch (error) {
      if (this.#stopped || isMetaFull(error)) throw error;
      await this.#failed(this.#record(record.id), step, error, failures + 1);
      return failures + 1;
    }
  }

  async #admit(record: OperationRecord): Promise<void> {
    // One at a time: two that look at once would both take the last place at a node.
    const obstacle = await this.#admissions.run('admission', async () => {
      if (record.cancelRequested) await this.#apply(record.id, { kind: 'cancel' });
      else return this.#admitFree(record);
      return null;
    });
    if (obstacle !== null) await this.#pauseFor(record.id, 200, obstacle);
  }

  /** Lets it start, or fail where its kind refuses it now; else what it has to wait for. */
  async #admitFree(record: OperationRecord): Promise<WaitReason | null> {
    const obstacle = this.#obstacle(record);
    if (obstacle !== null) return obstacle;
    const refusal = this.kindOf(record).refuse?.(record.input, this.#ports.view(), this.#ports.load());
    if (refusal) {
      const { code, message, hint } = refusal;
      await this.#apply(record.id, { kind: 'step-failed', error: { code, message, hint } });
    } else await this.#apply(record.id, { kind: 'admitted' });
    return null;
  }

  /** Why a queued operation cannot start yet: an older operation holds one of its locks, or a node has its fill of moves. */
  #obstacle(record: OperationRecord): WaitReason | null {
    const kind = this.kindOf(record);
    const locks = kind.locks(record.input);
    const others = this.unended().filter((r) => r.id !== record.id);
    const holder = others.find(
      (r) =>
        r.id < record.id &&
        this.kindOf(r)
          .locks(r.input)
          .some((l) => locks.includes(l)),
    );
    if (holder) return waitFor('lock', `operation ${holder.id} (${holder.kind} ${holder.subject}) goes first`);
    const view = this.#ports.view();
    const limit = view.settings['move.concurrency_per_node'];
    const active = others.filter((r) => r.status !== 'queued');
    // Those who plan look at the same moment, and each would take the last place.
    const atOnce = view.settings['move.concurrency'];
    if (record.parent !== null && active.filter((r) => r.parent !== null).length >= atOnce)
      return waitFor('limit', `${atOnce} planned moves are under way (move.concurrency)`);
    for (const node of kind.movesOn(record.input)) {
      const busy = active.filter((r) => this.kindOf(r).movesOn(r.input).includes(node)).length;
      if (busy >= limit) {
        return waitFor(
          'limit',
          `node ${node} has ${busy} moves under way (move.concurrency_per_node is ${limit})`,
          node,
        );
      }
    }
    return null;
  }

  async #runStep(record: OperationRecord, step: Step<unknown>): Promise<void> {
    const context = this.#context(record.id);
    const stepDone = { kind: 'step-done', steps: this.kindOf(record).steps.length } as const;
    const already = await step.done(context);
    if (record.cancelRequested && !record.passedNoReturn && !(already && step.noReturn)) {
      return this.#apply(record.id, { kind: 'cancel' });
    }
    // A skipped step has changed nothing, but the world may be past it because an earlier run of it was cut off: look at its own mark.
    if (already) {
      return this.#apply(record.id, {
        ...stepDone,
        noReturn: step.noReturn === true && record.data.began === step.name,
      });
    }
    if (step.noReturn && record.data.began !== step.name) await context.remember({ began: step.name });
    const result = await step.run(context);
    if (result.kind === 'done') return this.#apply(record.id, { ...stepDone, noReturn: step.noReturn === true });
    if (result.kind === 'given-up' && mayGiveUp(this.#record(record.id), step)) {
      const { code, message, hint } = result.error;
      return this.#apply(record.id, { kind: 'step-failed', error: { code, message, hint } });
    }
    if (result.kind === 'given-up') throw result.error;
    await this.#keepProgress(record.id);
    await this.#pauseFor(record.id, result.afterMs, result.waitsFor ?? null);
  }

  async #undoStep(record: OperationRecord, step: Step<unknown>): Promise<void> {
    const undo = step.undo;
    const result: StepResult = 'nothingToUndo' in undo ? { kind: 'done' } : await undo(this.#context(record.id));
    if (result.kind === 'done') return this.#apply(record.id, { kind: 'step-undone' });
    if (result.kind === 'given-up') throw result.error;
    await this.#pauseFor(record.id, result.afterMs, result.waitsFor ?? null);
  }

  /** Before the point of no return an error that does not pass undoes the operation; an undo and what lies behind the point only repeat. */
  async #failed(record: OperationRecord, step: Step<unknown>, error: unknown, failures: number): Promise<void> {
    const facts = { operation: record.id, step: step.name, error: messageOf(error), failures };
    this.#ports.log('warn', 'step failed', { ...facts, stack: error instanceof Error ? error.stack : undefined });
    const passing = error instanceof TideError ? error.retry !== 'never' : isPassing(error) || failures < ATTEMPTS_MAX;
    if (!passing && mayGiveUp(record, step)) {
      const { code, message, hint } =
        error instanceof TideError ? error : tideError('INTERNAL', { why: `${step.name}: ${messageOf(error)}` });
      return this.#apply(record.id, { kind: 'step-failed', error: { code, message, hint } });
    }
    const node = error instanceof TideError && typeof error.details.node === 'number' ? error.details.node : null;
    const reason = waitFor(
      node === null ? 'lock' : 'node',
      `${step.name}: ${messageOf(error)} (try ${failures})`,
      node,
    );
    if (record.cancelRequested && mayGiveUp(record, step)) return this.#apply(record.id, { kind: 'cancel' });
    await this.#pauseFor(record.id, Math.min(RETRY_MS * 2 ** Math.min(failures - 1, 6), RETRY_MS_MAX), reason);
  }

  async #pauseFor(id: number, ms: number, waitsFor: WaitReason | null): Promise<void> {
    const live = this.#live.get(id);
    if (live) live.waitsFor = waitsFor;
    const controller = new AbortController();
    this.#wake.set(id, controller);
    if (!this.#stopped) await this.#ports.clock.sleep(ms, controller.signal);
  }

  #context(id: number): StepContext<unknown> {
    const ports = this.#ports;
    const change = async (edit: (record: OperationRecord) => OperationRecord) => {
      await this.#journal.update(id, edit);
    };
    const record = () => this.#record(id);
    return {
      id,
      input: record().input,
      get data() {
        return record().data;
      },
      get view() {
        return ports.view();
      },
      get load() {
        return ports.load();
      },
      plane: ports.plane,
      clock: ports.clock,
      random: ports.random,
      alive: (node) => ports.alive(node),
      copyFailure: (from, to, ref) => ports.copyFailure(from, to, ref),
      commit: (...changes) => ports.commit(changes),
      remember: (facts) => change((r) => ({ ...r, data: { ...r.data, ...facts } })),
      claim: (...claims) => change((r) => ({ ...r, claims: mergeClaims(r.claims, claims) })),
      progress: (bytesDone, bytesTotal) => this.#progress(id, bytesDone, bytesTotal),
      moves: (seen, left) => this.#estimate(id, seen, left),
      pause: (pause) =>
        change((r) => ({ ...r, pauses: keepPauses([...r.pauses, { ...pause, atMs: ports.clock.nowMs() }]) })),
      children: () => this.#journal.all().filter((r) => r.parent === id),
      running: () => this.unended().filter((r) => r.id !== id),
      start: async (kind, input) => (await this.submit(kind, input, id)).id,
      cancelChildren: async () => {
        for (const child of this.#journal.all().filter((r) => r.parent === id && !hasEnded(r) && !r.passedNoReturn)) {
          await this.cancel(child.id).catch(() => {});
        }
      },
      cancel: async (other) => {
        await this.cancel(other).catch(() => {});
      },
      settleQuorum: (node) => this.quorums.settle(node),
      event: (kind, text, node) => ports.event({ kind, text, operation: id, ...(node === undefined ? {} : { node }) }),
    };
  }

  /** Journaled at every percent, so that the manager that comes next shows no less. */
  async #keepProgress(id: number): Promise<void> {
    const live = this.#live.get(id);
    if (!live) return;
    const record = this.#record(id);
    const told = record.percent ?? -1;
    const percent = live.estimate && live.estimate.percent > told ? { percent: live.estimate.percent } : {};
    if (share(live) <= share(record) && percent.percent === undefined) return;
    const { bytesDone, bytesTotal } = live;
    await this.#journal.update(id, (r) => ({ ...r, bytesDone, bytesTotal, ...percent }));
  }

  #estimate(id: number, seen: Omit<MovesSeen, 'left'>, left: MovesSeen['left'] | null): void {
    const live = this.#live.get(id);
    if (!live) return;
    live.left = left ?? live.left;
    if (live.left) live.estimate = estimate({ ...seen, left: live.left });
  }

  /**
   * Neither bytes nor their share go backwards: a copy that starts anew is caught up with before the figure moves again, and so is a source that
   * grows faster than it is copied.
   */
  #progress(id: number, bytesDone: number, bytesTotal: number): void {
    const live = this.#live.get(id);
    if (!live) return;
    live.since ??= { bytes: live.bytesDone, ms: this.#ports.clock.nowMs() };
    const done = Math.max(live.bytesDone, bytesDone);
    const most = live.bytesDone > 0 ? Math.floor((done * live.bytesTotal) / live.bytesDone) : bytesTotal;
    live.bytesTotal = Math.max(done, Math.min(bytesTotal, most));
    live.bytesDone = done;
  }
}

/**
 * SQLSTATEs of faults that pass: no lock in time, statement too slow, deadlock, serialization, object in use, too many connections, starting
 * or stopping (PostgreSQL manual, appendix A).
 */
const PASSING_SQLSTATES = new Set(['55P03', '57014', '40P01', '40001', '55006', '53300', '57P01', '57P02', '57P03']);

function isPassing(error: unknown): boolean {
  return PASSING_SQLSTATES.has(String((error as { code?: unknown } | null)?.code));
}

function stepNames(kind: OperationKind<unknown>): string[] {
  return kind.steps.map((step) => step.name);
}

function isMetaFull(error: unknown): error is TideError {
  return error instanceof TideError && error.code === 'META_FULL';
}

/** Behind the point of no return, and where this step may have passed it, there is only forward. */
function mayGiveUp(record: OperationRecord, step: Step<unknown>): boolean {
  return record.status === 'running' && !record.passedNoReturn && record.data.began !== step.name;
}

/** Whole percent of the bytes. */
function share({ bytesDone, bytesTotal }: { bytesDone: number; bytesTotal: number }): number {
  return bytesTotal === 0 ? 0 : Math.floor((100 * bytesDone) / bytesTotal);
}

function mergeClaims(have: readonly Claim[], more: readonly Claim[]): Claim[] {
  const known = new Set(have.map((c) => JSON.stringify(c)));
  return [...have, ...more.filter((c) => !known.has(JSON.stringify(c)))];
}

const PAUSES_MAX = 1_000;

/** An operation that backs off for days keeps its newest pauses. */
function keepPauses(pauses: PauseRecord[]): PauseRecord[] {
  return pauses.slice(-PAUSES_MAX);
}
