import { must } from '../core/assert.ts';
import { messageOf, TideError } from '../core/errors.ts';
import type { KeyedMutex } from '../core/mutex.ts';
import { obstacleTo } from './admission.ts';
import { adoptSteps } from './adopt.ts';
import { type ContextHost, contextOf } from './context.ts';
import { advance, hasEnded, type OperationEvent } from './machine.ts';
import { afterStoreError, isMetaFull, type Known, type Next, next } from './next.ts';
import type { OperationKind, OperationRecord, Step, StepContext } from './operation.ts';
import { waitFor } from './waiting.ts';

/** What an operation that is driven needs of the runner. */
export interface DriveHost extends ContextHost {
  /** Those that look whether they may start do so one after the other. */
  readonly admissions: KeyedMutex;
  kindOf(record: OperationRecord): OperationKind<unknown>;
  /** Everything is let go of where it is. */
  hasStopped(): boolean;
}

/** Nothing but the record. */
const LOOK: Known = { by: 'record' };
const UNKNOWN_STEP: Wait = {
  afterMs: 60_000,
  waitsFor: waitFor('lock', 'this version of pgtide does not know the step it is at: a newer one goes on with it'),
};

type Wait = Pick<Next & { do: 'wait' }, 'afterMs' | 'waitsFor'>;

/**
 * One operation, driven by this manager: a loop that does what `next` says, and knows no step by its name.
 */
export class Drive {
  readonly #id: number;
  readonly #host: DriveHost;
  readonly #context: StepContext<unknown>;
  #waking = new AbortController();
  /** How often in a row its kind has thrown. */
  #failures = 0;

  constructor(host: DriveHost, id: number) {
    this.#host = host;
    this.#id = id;
    this.#context = contextOf(host, id);
  }

  /** Ends the pause that it is in. */
  wake(): void {
    this.#waking.abort();
  }

  /** Comes back when it has ended, or everything is let go of. Throws what is broken: no try can mend it. */
  async run(): Promise<void> {
    let known = LOOK;
    while (!this.#host.hasStopped() && !hasEnded(this.#record)) {
      try {
        known = await this.#turn(known);
      } catch (error) {
        if (!(error instanceof TideError)) throw error;
        known = await this.#pause(afterStoreError(error));
      }
    }
  }

  get #record(): OperationRecord {
    return this.#host.record(this.#id);
  }

  /** Does what is next, and gives what is known then. Throws what the store answers, and what is broken. */
  async #turn(known: Known): Promise<Known> {
    const context = this.#context;
    const record = await this.#adopted();
    if (record === null) return this.#pause(UNKNOWN_STEP);
    const kind = this.#host.kindOf(record);
    const step = must(kind.steps[record.step], `step ${record.step} of operation ${record.id}`);
    const todo = next(record, step, known);
    switch (todo.do) {
      case 'look-in-queue':
        return this.#admit(step);
      case 'ask-done':
        return this.#attempt(step, async () => ({ by: 'done', already: await step.done(context) }));
      case 'run':
        return this.#attempt(step, async () => ({ by: 'result', result: await step.run(context) }));
      case 'undo':
        return this.#attempt(step, async () => ({ by: 'result', result: await todo.undo(context) }));
      case 'fail':
        return this.#failed(step, todo.error);
      case 'write':
        await this.#apply(todo.event);
        if (todo.event.kind === 'step-began') return known;
        this.#failures = 0;
        return LOOK;
      case 'wait':
        if (known.by !== 'error') this.#failures = 0;
        if (known.by === 'result' && record.status === 'running') await this.#keepProgress(record);
        return this.#pause(todo);
    }
  }

  /**
   * Another version may have begun it: the record with the steps of this one, or null where it does not know
   * the one that is next.
   */
  async #adopted(): Promise<OperationRecord | null> {
    const record = this.#record;
    const names = this.#host.kindOf(record).steps.map((step) => step.name);
    const adopted = adoptSteps(record, names);
    if (adopted === null || adopted === record) return adopted;
    const { step, steps } = adopted;
    return this.#host.update(this.#id, (r) => ({ ...r, step, steps }));
  }

  /** One at a time: two that look at once would both take the last place at a node. */
  #admit(step: Step<unknown>): Promise<Known> {
    return this.#host.admissions.run('admission', async () => {
      const known = await this.#attempt(step, async () => this.#lookInQueue());
      const todo = next(this.#record, step, known);
      if (todo.do !== 'write') return known;
      await this.#apply(todo.event);
      return LOOK;
    });
  }

  #lookInQueue(): Known {
    const { ports, kindOf } = this.#host;
    const record = this.#record;
    const view = ports.view();
    const unended = this.#host.all().filter((r) => !hasEnded(r));
    const obstacle = obstacleTo(record, unended, kindOf, view);
    const refusal = obstacle === null ? kindOf(record).refuse?.(record.input, view, ports.load()) : undefined;
    return { by: 'queue', obstacle, refusal: refusal ?? null };
  }

  /** What the kind throws is its own: it is tried again or undone, and no other operation suffers. */
  async #attempt(step: Step<unknown>, work: () => Promise<Known>): Promise<Known> {
    try {
      return await work();
    } catch (error) {
      return this.#failed(step, error);
    }
  }

  #failed({ name }: Step<unknown>, error: unknown): Known {
    const isCounted = !this.#host.hasStopped() && !isMetaFull(error);
    if (isCounted) {
      this.#failures += 1;
      const stack = error instanceof Error ? error.stack : undefined;
      const facts = { operation: this.#id, step: name, error: messageOf(error), failures: this.#failures, stack };
      this.#host.ports.log('warn', 'step failed', facts);
    }
    return { by: 'error', error, failures: this.#failures };
  }

  async #apply(event: OperationEvent): Promise<void> {
    const { ports, progress } = this.#host;
    progress.waitsFor(this.#id, null);
    const edit = (r: OperationRecord) => advance(progress.counted(r), event, ports.clock.nowMs());
    const record = await this.#host.update(this.#id, edit);
    if (!hasEnded(record)) return;
    const why = record.error ? `: ${record.error.message}` : '';
    const text = `${record.kind} ${record.subject}${why}`;
    await ports.event({ kind: `operation-${record.status}`, text, operation: this.#id });
  }

  async #keepProgress(record: OperationRecord): Promise<void> {
    const shown = this.#host.progress.toKeep(record);
    if (shown) await this.#host.update(this.#id, (r) => ({ ...r, ...shown }));
  }

  async #pause({ afterMs, waitsFor }: Wait): Promise<Known> {
    const { ports, progress } = this.#host;
    progress.waitsFor(this.#id, waitsFor);
    this.#waking = new AbortController();
    if (!this.#host.hasStopped()) await ports.clock.sleep(afterMs, this.#waking.signal);
    return LOOK;
  }
}
