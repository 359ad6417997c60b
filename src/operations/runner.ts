import { must } from '../core/assert.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { KeyedMutex } from '../core/mutex.ts';
import type { PlanData } from './data.ts';
import { Drive, type DriveHost } from './drive.ts';
import type { Journal } from './journal.ts';
import { hasEnded } from './machine.ts';
import type { OperationKind, OperationRecord } from './operation.ts';
import { type Live, Progress } from './progress.ts';
import { QuorumKeeper } from './quorum-keeper.ts';
import { forgettable } from './retention.ts';
import type { RunnerPorts } from './runner-ports.ts';

/**
 * Runs operations, each by its own `Drive`. Whatever a step does has been journaled before, and a restarted
 * manager goes on from the record (`resume`). What no try can mend lets go of all operations and is told
 * (`broken`): none is left that nobody drives.
 */
export class Runner {
  /** The one that sets the nodes' quorums: it alone knows what running operations demand. */
  readonly quorums: QuorumKeeper;
  readonly #journal: Journal;
  readonly #ports: RunnerPorts;
  readonly #kinds: ReadonlyMap<string, OperationKind<unknown>>;
  readonly #progress: Progress;
  readonly #host: DriveHost;
  readonly #drives = new Map<number, { drive: Drive; ended: Promise<void> }>();
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
      admissions: new KeyedMutex(),
      kindOf: (record) => this.kindOf(record),
      hasStopped: () => this.#stopped,
    };
  }

  /**
   * Takes up everything that had not ended when the last manager did. What has been submitted to this one
   * runs already.
   */
  resume(): void {
    for (const record of this.unended()) if (!this.#drives.has(record.id)) this.#launch(record);
  }

  /** Lets go of all operations where they are; the journal has them. */
  async stop(): Promise<void> {
    this.#letGo();
    await Promise.all([...this.#drives.values()].map(({ ended }) => ended));
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
    const subject = definition.subject(input, this.#ports.view());
    const make = (id: number): OperationRecord => ({
      id,
      parent,
      kind,
      input: input as Record<string, unknown>,
      subject,
      status: 'queued',
      steps: definition.steps.map((step) => step.name),
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
   * Asks an operation to undo itself. Throws OP_UNKNOWN, OP_FORGOTTEN, OP_ENDED or OP_PAST_NO_RETURN. A step
   * that may have passed the point of no return already is asked first (`done`), in the operation's own loop.
   */
  async cancel(id: number): Promise<OperationRecord> {
    const record = this.known(id);
    if (hasEnded(record)) throw tideError('OP_ENDED', { id, status: record.status });
    if (record.passedNoReturn) {
      const step = this.kindOf(record).steps[record.step]?.name ?? 'last';
      throw tideError('OP_PAST_NO_RETURN', { id, step });
    }
    const asked = await this.#update(id, (r) => ({ ...r, cancelRequested: true }));
    this.#drives.get(id)?.drive.wake();
    return asked;
  }

  #launch(record: OperationRecord): void {
    const { id } = record;
    this.#progress.begin(record);
    const drive = new Drive(this.#host, id);
    const ended = drive
      .run()
      .catch((error) => this.#break(error, id))
      .finally(() => {
        this.#drives.delete(id);
        this.#progress.end(id);
      });
    this.#drives.set(id, { drive, ended });
  }

  #letGo(): void {
    this.#stopped = true;
    for (const { drive } of this.#drives.values()) drive.wake();
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

  /** What the store answers passes, or ends the seat. Anything else is broken, whoever may catch it. */
  async #journaled<T>(work: () => Promise<T>, id: number | null = null): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof TideError)) this.#break(error, id);
      throw error;
    }
  }
}
