import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { tideError } from '../core/errors.ts';
import type { Entry, MetaStore, Write } from '../store/meta-store.ts';
import { hasEnded } from './machine.ts';
import type { OperationKind, OperationRecord } from './operation.ts';

/**
 * Where an operation can be cut off, as its journal sees it. `before` a step: the record that it is next is
 * durable. `effect`: the step is done, or was found done, and no record says so. `after` the last step: the
 * record of the end is durable. `undone`: as `effect`, of an undo.
 */
export type Moment = 'before' | 'effect' | 'after' | 'undone';

type Kinds = ReadonlyMap<string, OperationKind<unknown>>;

/**
 * Names `KIND/STEP/MOMENT` of the boundaries on both sides of the write of a record; null where it is none.
 */
export function boundariesOfWrite(
  kinds: Kinds,
  from: Pick<OperationRecord, 'status' | 'step'> | null,
  to: Pick<OperationRecord, 'kind' | 'status' | 'step'>,
): { effect: string | null; durable: string | null } {
  const name = (step: number, moment: Moment) => `${to.kind}/${kinds.get(to.kind)?.steps[step]?.name}/${moment}`;
  if (from?.status === 'queued' && to.status === 'running') return { effect: null, durable: name(0, 'before') };
  if (from?.status === 'running' && to.step === from.step + 1) {
    const durable = to.status === 'running' ? name(to.step, 'before') : name(from.step, 'after');
    return { effect: name(from.step, 'effect'), durable };
  }
  const isUndone = from?.status === 'undoing' && (to.step < from.step || hasEnded(to));
  return { effect: isUndone ? name(from.step, 'undone') : null, durable: null };
}

/** Nobody has to end a test that was killed. */
const HELD_MS = 60_000;
const POLL_MS = 10;

/**
 * The meta store of a manager under test: an operation that comes to the boundary named in `DIR/armed` stands
 * still there. `armed` becomes `hit`, which then holds the operation's number, and it goes on when whoever
 * armed it has removed that file, or after a minute. Where there is `refused` then, the record of an effect
 * is not written, as on a full disk: what was asked of the operation meanwhile comes first.
 */
export class CrashPointStore implements MetaStore {
  readonly #inner: MetaStore;
  readonly #kinds: Kinds;
  readonly #armed: string;
  readonly #hit: string;
  readonly #refused: string;

  constructor(inner: MetaStore, kinds: Kinds, directory: string) {
    this.#inner = inner;
    this.#kinds = kinds;
    this.#armed = join(directory, 'armed');
    this.#hit = join(directory, 'hit');
    this.#refused = join(directory, 'refused');
  }

  get isFull(): boolean {
    return this.#inner.isFull;
  }

  get(key: string): Promise<Entry | null> {
    return this.#inner.get(key);
  }

  range(prefix: string): Promise<Entry[]> {
    return this.#inner.range(prefix);
  }

  async txn(request: Parameters<MetaStore['txn']>[0]): Promise<{ ok: boolean; revision: number }> {
    const point = this.#point();
    if (point === null) return this.#inner.txn(request);
    const passing = await Promise.all(request.write.map((write) => this.#passing(write)));
    const at = (side: 'effect' | 'durable') => passing.find((p) => p?.[side] === point)?.id;
    if ((await this.#hold(at('effect'))) && this.#isRefused())
      throw tideError('META_FULL', { why: 'refused by a test' });
    const answer = await this.#inner.txn(request);
    if (answer.ok) await this.#hold(at('durable'));
    return answer;
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  #point(): string | null {
    return existsSync(this.#armed) ? readFileSync(this.#armed, 'utf8') : null;
  }

  async #passing(write: Write) {
    if ('delete' in write || !write.put.startsWith('/op/')) return null;
    const to = write.value as OperationRecord;
    const from = ((await this.#inner.get(write.put))?.value ?? null) as OperationRecord | null;
    return { id: to.id, ...boundariesOfWrite(this.#kinds, from, to) };
  }

  #isRefused(): boolean {
    const isRefused = existsSync(this.#refused);
    rmSync(this.#refused, { force: true });
    return isRefused;
  }

  /** True where it has stood still. */
  async #hold(operation: number | undefined): Promise<boolean> {
    // Another operation at the same boundary may have been quicker.
    if (operation === undefined || !existsSync(this.#armed)) return false;
    // A file of its own: whoever armed it may be root, whose file a node cannot write to.
    rmSync(this.#armed);
    writeFileSync(`${this.#hit}.new`, String(operation));
    renameSync(`${this.#hit}.new`, this.#hit);
    const untilMs = performance.now() + HELD_MS;
    while (existsSync(this.#hit) && performance.now() < untilMs) await sleep(POLL_MS);
    return true;
  }
}
