import { must } from '../core/assert.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import { obstacleTo } from './admission.ts';
import { adoptSteps } from './adopt.ts';
import { type ContextHost, contextOf } from './context.ts';
import type { PlanData } from './data.ts';
import type { Journal } from './journal.ts';
import { advance, hasEnded, type OperationEvent } from './machine.ts';
import { afterStoreError, isMetaFull, type Known, type Next, next } from './next.ts';
import type { OperationKind, OperationRecord, Step, StepContext } from './operation.ts';
import { type Live, Progress } from './progress.ts';
import { QuorumKeeper } from './quorum-keeper.ts';
import { forgettable } from './retention.ts';
import type { RunnerPorts } from './runner-ports.ts';
import { waitFor } from './waiting.ts';

/** Nothing but the record. */
const LOOK: Known = { by: 'record' };
const UNKNOWN_STEP_MS = 60_000;
const UNKNOWN_STEP = waitFor(
  'lock',
  'this version of pgtide does not know the step it is at: a newer one goes on with it',
);

/**
 * Runs operations: one loop per operation does what `next` says. Whatever a step does has been journaled before, and a restarted manager goes on
 * from the record (`resume`). What no try can mend lets go of all operations and is told (`broken`): none is left that nobody drives.
 */
export class Runner {
  /** The one that sets the nodes' quorums: it alone knows what running operations demand. */
  readonly quorums: QuorumKeeper;
  readonly #journal: Journal;
  readonly #ports: RunnerPorts;
  readonly #kinds: ReadonlyMap<string, OperationKind<unknown>>;
  readonly #progress: Progress;
  readonly #host: ContextHost;
  readonly #wake = new Map<number, AbortController>();
  readonly #loops = new Set<Promise<void>>();
  readonly #admissions = new KeyedMutex();
  #stopped = false;

  constructor(journal: Journal, kinds: ReadonlyMap<string, OperationKind<unknown>>, ports: RunnerPorts) {
    this.#journal = journal;
    this.#kinds = kinds;
    this.#ports = ports;
    this.#progress = new Progress(ports.clock);
    this.quorums = new QuorumKeeper({ ...ports, running: () => this.unended() });
    this.#host = {
      ports,
      progress: this.#progress,
      quorums: this.quorums,
      record: (id) => this.#record(id),
      all: () => this.all(),
      update: (id, edit) => this.#update(id, edit),
      submit: (kind, input, parent) => this.submit(kind, input, parent),
      cancel: (id) => this.cancel(id),
    };
  }

  /** Takes up everything that had not ended when the last manager did. What has been submitted to this one runs already. */
  resume(): void {
    for (const record of this.unended()) if (!this.live(record.id)) this.#launch(record);
  }

  /** Lets go of all operations where they are; the journal has them. */
  async stop(): Promise<void> {
    this.#letGo();
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
    const ids = forgettable(this.all(), settings, this.#ports.clock.nowMs());
    await this.#journaled(() => this.#journal.forget(ids));
  }

  all(): OperationRecord[] {
    return this.#journal.all();
  }

  live(id: number): Live | undefined {
    return this.#progress.of(id);
  }

  kindOf(record: OperationRecord): OperationKind<unknown> {
    return must(this.#kinds.get(record.kind), `operation kind ${record.kind}`);
  }

  unended(): OperationRecord[] {
    return this.all().filter((r) => !hasEnded(r));
  }

  /** The unended operation that holds a lock, queued ones included. */
  holderOf(lock: string): OperationRecord | undefined {
    return this.unended().find((r) => this.kindOf(r).locks(r.input).includes(lock));
  }

  /** Journals a new operation, with what its steps may need to know, and starts its loop. */
  async submit(
    kind: string,
    input: object,
    parent: number | null = null,
    data: Pick<PlanData, 'plan' | 'bytesPlanned'> = {},
  ): Promise<OperationRecord> {
    const definition = must(this.#kinds.get(kind), `operation kind ${kind}`);
    const make = (id: number): OperationRecord => ({
      id,
      parent,
      kind,
      input: input as Record<string, unknown>,
      subject: definition.subject(input, this.#ports.view()),
      status: 'queued',
      steps: stepNames(definition),
      step: 0,
      began: null,
      passedNoReturn: false,
      cancelRequested: false,
      data,
      claims: [],
      pauses: [],
      createdMs: this.#ports.clock.nowMs(),
      startedMs: null,
      endedMs: null,
      bytesDone: 0,
      bytesTotal: 0,
      error: null,
    });
    const record = await this.#journaled(() => this.#journal.append(make));
    this.#launch(record);
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
    const asked = await this.#update(id, (r) => ({ ...r, cancelRequested: true }));
    this.#wake.get(id)?.abort();
    return asked;
  }

  #launch(record: OperationRecord): void {
    const { id } = record;
    this.#progress.begin(record);
    const loop = this.#drive(id)
      .catch((error) => this.#break(error, id))
      .finally(() => {
        this.#loops.delete(loop);
        this.#progress.end(id);
        this.#wake.delete(id);
      });
    this.#loops.add(loop);
  }

  #letGo(): void {
    this.#stopped = true;
    for (const controller of this.#wake.values()) controller.abort();
  }

  /** A defect, or a journal that somebody else writes: whoever goes on has to begin with what is stored. */
  #break(error: unknown, operation: number | null): void {
    if (this.#stopped) return;
    this.#letGo();
    const stack = error instanceof Error ? error.stack : undefined;
    this.#ports.log('error', 'the manager cannot go on', { operation, error: messageOf(error), stack });
    this.#ports.broken(error);
  }

  #record(id: number): OperationRecord {
    return must(this.#journal.get(id), `operation ${id}`);
  }

  #update(id: number, edit: (record: OperationRecord) => OperationRecord): Promise<OperationRecord> {
    return this.#journaled(() => this.#journal.update(id, edit), id);
  }

  /** What the store answers passes, or ends the seat; what it is not asked to answer is broken, whoever catches it. */
  async #journaled<T>(work: () => Promise<T>, id: number | null = null): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof TideError)) this.#break(error, id);
      throw error;
    }
  }

  async #drive(id: number): Promise<void> {
    const running: Running = { id, context: contextOf(this.#host, id), failures: 0 };
    let known = LOOK;
    while (!this.#stopped && !hasEnded(this.#record(id))) {
      try {
        known = await this.#turn(running, known);
      } catch (error) {
        if (!(error instanceof TideError)) throw error;
        known = LOOK;
        await this.#pause(id, afterStoreError(error));
      }
    }
  }

  /** Does what is next, and gives what is known then. Throws what the store answers, and what is broken. */
  async #turn(running: Running, known: Known): Promise<Known> {
    const { id, context } = running;
    const record = await this.#adopted(id);
    if (record === null) return this.#pause(id, { afterMs: UNKNOWN_STEP_MS, waitsFor: UNKNOWN_STEP });
    const step = this.#stepOf(record);
    const todo = next(record, step, known);
    switch (todo.do) {
      case 'look-in-queue':
        return this.#admit(running, step);
      case 'ask-done':
        return this.#attempt(running, step, async () => ({ by: 'done', already: await step.done(context) }));
      case 'run':
        return this.#attempt(running, step, async () => ({ by: 'result', result: await step.run(context) }));
      case 'undo':
        return this.#attempt(running, step, async () => ({ by: 'result', result: await todo.undo(context) }));
      case 'fail':
        return this.#failed(running, step, todo.error);
      case 'write':
        await this.#apply(id, todo.event);
        if (todo.event.kind === 'step-began') return known;
        running.failures = 0;
        return LOOK;
      case 'wait':
        if (known.by !== 'error') running.failures = 0;
        if (known.by === 'result' && record.status === 'running') await this.#keepProgress(record);
        return this.#pause(id, todo);
    }
  }

  /** Another version may have begun it: the record with the steps of this one, or null where it does not know the one that is next. */
  async #adopted(id: number): Promise<OperationRecord | null> {
    const record = this.#record(id);
    const adopted = adoptSteps(record, stepNames(this.kindOf(record)));
    if (adopted === null || adopted === record) return adopted;
    const { step, steps } = adopted;
    return this.#update(id, (r) => ({ ...r, step, steps }));
  }

  #stepOf(record: OperationRecord): Step<unknown> {
    return must(this.kindOf(record).steps[record.step], `step ${record.step} of operation ${record.id}`);
  }

  /** One at a time: two that look at once would both take the last place at a node. */
  #admit(running: Running, step: Step<unknown>): Promise<Known> {
    return this.#admissions.run('admission', async () => {
      const known = await this.#attempt(running, step, async () => this.#queue(this.#record(running.id)));
      const todo = next(this.#record(running.id), step, known);
      if (todo.do !== 'write') return known;
      await this.#apply(running.id, todo.event);
      return LOOK;
    });
  }

  #queue(record: OperationRecord): Known {
    const kind = this.kindOf(record);
    const view = this.#ports.view();
    const obstacle = obstacleTo(record, this.unended(), (r) => this.kindOf(r), view);
    const refusal = obstacle === null ? kind.refuse?.(record.input, view, this.#ports.load()) : undefined;
    return { by: 'queue', obstacle, refusal: refusal ?? null };
  }

  /** What the kind throws is its own: it is tried again or undone, and no other operation suffers. */
  async #attempt(running: Running, step: Step<unknown>, work: () => Promise<Known>): Promise<Known> {
    try {
      return await work();
    } catch (error) {
      return this.#failed(running, step, error);
    }
  }

  #failed(running: Running, step: Step<unknown>, error: unknown): Known {
    if (this.#stopped || isMetaFull(error)) return { by: 'error', error, failures: running.failures };
    const failures = ++running.failures;
    const facts = { operation: running.id, step: step.name, error: messageOf(error), failures };
    this.#ports.log('warn', 'step failed', { ...facts, stack: error instanceof Error ? error.stack : undefined });
    return { by: 'error', error, failures };
  }

  async #apply(id: number, event: OperationEvent): Promise<void> {
    this.#progress.waitsFor(id, null);
    const record = await this.#update(id, (r) => advance(this.#progress.counted(r), event, this.#ports.clock.nowMs()));
    if (!hasEnded(record)) return;
    const why = record.error ? `: ${record.error.message}` : '';
    const text = `${record.kind} ${record.subject}${why}`;
    await this.#ports.event({ kind: `operation-${record.status}`, text, operation: id });
  }

  async #keepProgress(record: OperationRecord): Promise<void> {
    const shown = this.#progress.toKeep(record);
    if (shown) await this.#update(record.id, (r) => ({ ...r, ...shown }));
  }

  async #pause(id: number, { afterMs, waitsFor }: Pick<Next & { do: 'wait' }, 'afterMs' | 'waitsFor'>): Promise<Known> {
    this.#progress.waitsFor(id, waitsFor);
    const controller = new AbortController();
    this.#wake.set(id, controller);
    if (!this.#stopped) await this.#ports.clock.sleep(afterMs, controller.signal);
    return LOOK;
  }
}

/** An operation that this manager drives. */
interface Running {
  readonly id: number;
  readonly context: StepContext<unknown>;
  /** How often in a row its kind has thrown. */
  failures: number;
}

function stepNames(kind: OperationKind<unknown>): string[] {
  return kind.steps.map((step) => step.name);
}
