import type { CatalogChange } from '../catalog/change.ts';
import type { ClusterView, LoadView, NodeId, OperationId } from '../catalog/model.ts';
import type { ApplyError } from '../core/apply-error.ts';
import type { Clock } from '../core/clock.ts';
import type { TideError } from '../core/errors.ts';
import type { WaitReason } from '../core/wait-reason.ts';
import type { KnownData } from './data.ts';
import type { MovesSeen } from './estimate.ts';
import type { DataPlane, PartitionRef } from './ports.ts';

export type OperationStatus = 'queued' | 'running' | 'undoing' | 'done' | 'failed' | 'cancelled';

/**
 * A thing made on a server for an operation, written down before it is made (`tide doctor` finds what nobody
 * claims).
 */
export interface Claim {
  kind: 'replica-table' | 'forward' | 'parent' | 'server';
  node: NodeId;
  name: string;
}

/** One attempt to swing a hinge, kept for as long as its operation. */
export interface PauseRecord {
  tid: number;
  pid: number;
  node: NodeId;
  purpose: 'leader' | 'hinge';
  outcome: 'done' | 'backed-off';
  pauseMs: number;
  atMs: number;
}

/**
 * The journaled state of an operation: everything a restarted manager needs. Times are milliseconds since
 * 1970.
 */
export interface OperationRecord {
  readonly id: OperationId;
  readonly parent: OperationId | null;
  readonly kind: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly subject: string;
  readonly status: OperationStatus;
  /** Names of its kind's steps, as the program that wrote this knew them. */
  readonly steps: readonly string[];
  /** Index of the step under way. */
  readonly step: number;
  /** The last step behind which there is no return that has begun: it may have passed that. */
  readonly began: string | null;
  readonly passedNoReturn: boolean;
  readonly cancelRequested: boolean;
  /** What its steps remember; the type tells what others look at. */
  readonly data: Readonly<KnownData>;
  readonly claims: readonly Claim[];
  readonly pauses: readonly PauseRecord[];
  readonly createdMs: number;
  readonly startedMs: number | null;
  readonly endedMs: number | null;
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** Of one that moves by a plan: the most that has been told of it, whole. Absent: nothing yet. */
  readonly percent?: number;
  readonly error: { readonly code: string; readonly message: string; readonly hint: string } | null;
}

/**
 * `given-up`: going on would do harm: before the point of no return the operation is undone, and has failed
 * with this error.
 */
export type StepResult =
  | { kind: 'done' }
  | { kind: 'again'; afterMs: number; waitsFor?: WaitReason }
  | { kind: 'given-up'; error: TideError };

/**
 * One idempotent step. `done` asks the world "is it already so?", so that a resumed operation never relies on
 * memory; `run` makes it so or says what it waits for; `undo` takes it back. Once a `noReturn` step is done
 * there is no undo, only forward.
 */
export interface Step<I, D = unknown> {
  readonly name: string;
  readonly noReturn?: true;
  done(context: StepContext<I, D>): Promise<boolean>;
  run(context: StepContext<I, D>): Promise<StepResult>;
  undo: ((context: StepContext<I, D>) => Promise<StepResult>) | NothingToUndo;
}

/** An explicit reason in place of an undo. */
export interface NothingToUndo {
  nothingToUndo: string;
}

export function nothingToUndo(why: string): NothingToUndo {
  return { nothingToUndo: why };
}

export const DONE: StepResult = { kind: 'done' };

export function again(afterMs: number, waitsFor?: WaitReason): StepResult {
  return waitsFor ? { kind: 'again', afterMs, waitsFor } : { kind: 'again', afterMs };
}

export function giveUp(error: TideError): StepResult {
  return { kind: 'given-up', error };
}

/** `D`: what the step knows of the operation's data; without it, nothing. */
export interface StepContext<I, D = unknown> {
  readonly id: OperationId;
  readonly input: I;
  /** Every key is there: a kind that does not name what one of its steps needs is a type error. */
  readonly data: { readonly [K in keyof D]-?: D[K] | undefined };
  readonly view: ClusterView;
  readonly load: LoadView;
  readonly plane: DataPlane;
  readonly clock: Clock;
  readonly random: () => number;
  /** Changes the catalog, atomically and durably. */
  commit(...changes: CatalogChange[]): Promise<void>;
  /** Journals facts that the rest of the operation needs. */
  remember(facts: unknown extends D ? never : Partial<D>): Promise<void>;
  claim(...claims: Claim[]): Promise<void>;
  progress(bytesDone: number, bytesTotal: number): void;
  /** Tells what is to be known of the moves of a plan; `left` null: as it was told last. */
  moves(seen: Omit<MovesSeen, 'left'>, left: MovesSeen['left'] | null): void;
  pause(record: Omit<PauseRecord, 'atMs'>): Promise<void>;
  alive(node: NodeId): boolean;
  /** Operations this one started; they end with it. */
  children(): OperationRecord[];
  /** All that run now in the cluster. */
  running(): OperationRecord[];
  start(kind: string, input: object): Promise<OperationId>;
  cancelChildren(): Promise<void>;
  /** What PostgreSQL fails at again and again in copying a partition from `from` to `to`. */
  copyFailure(from: NodeId, to: NodeId, ref: PartitionRef): ApplyError | undefined;
  /** Asks another operation to undo itself, where it still can. */
  cancel(id: OperationId): Promise<void>;
  event(kind: string, text: string, node?: NodeId): Promise<void>;
  /**
   * Makes a node's commits wait for what the catalog and the demands of all running operations want
   * (`steps/protect.ts`).
   */
  settleQuorum(node: NodeId): Promise<void>;
}

/** A kind of operation: what it needs for itself, what it checks, and its steps. */
export interface OperationKind<I, D = unknown> {
  readonly kind: string;
  /** `acct 3: n1 → n4` */
  subject(input: I, view: ClusterView): string;
  /** Names nobody else may hold while it runs: `partition:4/0`, `schema`, `node:3`. */
  locks(input: I): string[];
  /** Nodes whose move limit it counts against. */
  movesOn(input: I): NodeId[];
  /**
   * What speaks against starting it now: checked when its turn comes, since the cluster may have changed
   * while it was queued.
   */
  refuse?(input: I, view: ClusterView, load: LoadView): TideError | undefined;
  readonly steps: readonly Step<I, D>[];
}

/** Keeps the types of input and data while kinds of many stand in one registry. */
export function operationKind<I, D = unknown>(definition: OperationKind<I, D>): OperationKind<unknown> {
  return definition as unknown as OperationKind<unknown>;
}

export const partitionLock = (tid: number, pid: number) => `partition:${tid}/${pid}`;

/**
 * A node that is down: its leaders go to others, it is taken back when it returns, or given up. Whoever holds
 * this decides whether the node may serve: it is not let in meanwhile.
 */
export const outageLock = (node: NodeId) => `outage:${node}`;
