import {
  type ApplyFailure,
  type GivenUp,
  givenUpAgain,
  heldBackMs,
  lasts,
  partitionIn,
  type Remedy,
  remedyFor,
  remedyPauseMs,
  streamEnds,
} from '../catalog/apply-failures.ts';
import type { ClusterView, NodeId, Partition } from '../catalog/model.ts';
import { partitionTable } from '../catalog/names.ts';
import { isOut, partitionOf, replicaKey, replicaOn, servedBy } from '../catalog/view.ts';
import type { ApplyError } from '../core/apply-error.ts';
import { must } from '../core/assert.ts';
import type { Clock } from '../core/clock.ts';
import { messageOf } from '../core/errors.ts';
import { Rounds } from '../core/rounds.ts';
import type { PartitionRef, Replicas, Streams } from '../operations/ports.ts';
import { partitionName } from '../placement/naming.ts';
import { type GiveUpPorts, giveUpReceiver, type TakeAwayPorts, takeStreamAway } from './give-up.ts';

export interface ApplyPorts extends GiveUpPorts, TakeAwayPorts {
  plane: { streams: Pick<Streams, 'stop' | 'disconnect'>; replicas: Pick<Replicas, 'create' | 'drop'> };
  clock: Clock;
  /** The node is being failed over: what it has sent is being compared. */
  isChoosing(node: NodeId): boolean;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/** A beat, and the statements that have shown whether a remedy helps. */
const SHOWN_MS = 1_500;
/** A stream that has not failed for as long has nothing to do with what was tried before. */
const FORGET_MS = 60_000;

interface Tried {
  remedies: number;
  /** Of them, those that gave up the whole stream. */
  cuts: number;
  atMs: number;
  /** It was seen to fail. */
  seenMs: number;
  /** What was last told of it, and when. */
  told: string;
  toldMs: number;
}

const UNTRIED: Omit<Tried, 'seenMs'> = { remedies: 0, cuts: 0, atMs: -Infinity, told: '', toldMs: -Infinity };

/**
 * Looks after streams that fail again and again at the same place: a row, or a table, that cannot be applied.
 * The partition is taken out of the stream, so that the others go on; its replica counts no more, and is to
 * be copied again. `catalog/apply-failures.ts` decides.
 */
export class ApplyKeeper {
  readonly #ports: ApplyPorts;
  readonly #rounds: Rounds<NodeId>;
  readonly #heard = new Map<NodeId, { errors: readonly ApplyError[]; atMs: number }>();
  /** Since when each is alive. */
  readonly #aliveMs = new Map<NodeId, number>();
  /** By stream and table. */
  readonly #tried = new Map<string, Tried>();
  /**
   * `replicaKey` of what is being given up: it is not copied before it is out of the stream, or the copy
   * would be taken out.
   */
  readonly #atWork = new Set<string>();
  /** By `replicaKey`. */
  readonly #givenUp = new Map<string, GivenUp>();

  constructor(ports: ApplyPorts) {
    this.#ports = ports;
    this.#rounds = new Rounds((node, error) =>
      ports.log('warn', 'a stream that fails could not be looked after', { node, error: messageOf(error) }),
    );
  }

  /** Takes what a node has said with its beat. */
  hear(node: NodeId, errors: readonly ApplyError[]): void {
    this.#heard.set(node, { errors, atMs: this.#ports.clock.nowMs() });
  }

  /** `nodes`: all that are alive. */
  round(nodes: readonly NodeId[]): void {
    const nowMs = this.#ports.clock.nowMs();
    for (const [key, { seenMs }] of this.#tried) if (nowMs - seenMs > FORGET_MS) this.#tried.delete(key);
    for (const node of this.#aliveMs.keys()) if (!nodes.includes(node)) this.#aliveMs.delete(node);
    for (const node of nodes) if (!this.#aliveMs.has(node)) this.#aliveMs.set(node, nowMs);
    this.#rounds.begin(nodes, (node) => this.#look(node));
  }

  idle(): Promise<void> {
    return this.#rounds.idle();
  }

  /** What a node fails at now, and has for long enough to say so. */
  failuresOf(node: NodeId): ApplyFailure[] {
    const { clock, alive } = this.#ports;
    const heard = this.#heard.get(node);
    if (!heard) return [];
    const nowMs = clock.nowMs();
    return heard.errors.flatMap((error) => {
      const ends = streamEnds(error.stream);
      // One that is away is not reached: that is no news.
      if (ends?.to !== node || !alive(ends.from)) return [];
      const sinceMs = [ends.from, node].map((end) => this.#aliveMs.get(end) ?? nowMs);
      return lasts(error, nowMs - heard.atMs, nowMs - Math.max(...sinceMs)) ? [{ ...error, ...ends }] : [];
    });
  }

  /** What keeps a partition from being copied. */
  copyFailure(from: NodeId, to: NodeId, { tid, pid }: PartitionRef): ApplyFailure | undefined {
    const table = partitionTable(tid, pid);
    return this.failuresOf(to).find((failure) => failure.copying && failure.from === from && failure.table === table);
  }

  /** Replicas that are not to be copied again yet, and why. */
  heldBack(): ReadonlyMap<string, string> {
    const nowMs = this.#ports.clock.nowMs();
    const held = [...this.#givenUp].flatMap(([key, given]): [string, string][] => {
      const ms = heldBackMs(given, nowMs);
      const text = `it was given up ${given.count} times and is copied again in ${Math.ceil(ms / 1_000)} s: ${given.why}`;
      return ms > 0 ? [[key, text]] : [];
    });
    const atWork = [...this.#atWork].map((key): [string, string] => [key, 'it is taken out of its stream']);
    return new Map([...held, ...atWork]);
  }

  async #look(node: NodeId): Promise<void> {
    for (const failure of this.failuresOf(node)) if (this.#mayTouch(failure)) await this.#mend(failure);
  }

  /**
   * How far it has come in the stream of a node that is failed over decides who leads: nobody changes it
   * meanwhile.
   */
  #mayTouch({ from, to }: ApplyFailure): boolean {
    const { view, isChoosing } = this.#ports;
    return !isOut(view(), from) && !isOut(view(), to) && !isChoosing(from);
  }

  async #mend(failure: ApplyFailure): Promise<void> {
    const { clock, view } = this.#ports;
    const key = `${failure.stream} ${failure.table}`;
    const nowMs = clock.nowMs();
    const tried = { ...(this.#tried.get(key) ?? UNTRIED), seenMs: nowMs };
    this.#tried.set(key, tried);
    const failedMs = nowMs - failure.agoMs;
    // What was tried has yet to show whether it helps.
    if (failedMs < tried.atMs + SHOWN_MS) return;
    // It has been copied again since: what failed before has nothing to do with it.
    const remedies = this.#isInUse(failure) ? 0 : tried.remedies;
    const remedy = remedyFor(view(), failure, remedies);
    if (remedy === 'none') {
      // Messages that take turns, of two files on one full disk, are one piece of news.
      if (failure.copying || tried.told === failure.message || nowMs - tried.toldMs < FORGET_MS) return;
      await this.#tell(failure, 'it holds up what that stream brings');
      this.#tried.set(key, { ...tried, told: failure.message, toldMs: nowMs });
      return;
    }
    if (nowMs < tried.atMs + remedyPauseMs(remedy, tried.cuts)) return;
    const { from, to } = failure;
    const ref = remedy === 'cut' ? null : partitionIn(failure);
    const concerned = (ref ? [ref] : servedBy(view(), from)).map((p) => replicaKey(p, to));
    for (const one of concerned) this.#atWork.add(one);
    const done = await this.#carryOut(remedy, failure).finally(() => {
      for (const one of concerned) this.#atWork.delete(one);
    });
    const cuts = tried.cuts + (remedy === 'cut' ? 1 : 0);
    const told = failure.message;
    const endedMs = clock.nowMs();
    if (done) this.#tried.set(key, { ...tried, remedies: remedies + 1, cuts, atMs: endedMs, told, toldMs: endedMs });
  }

  #isInUse(failure: ApplyFailure): boolean {
    const ref = partitionIn(failure);
    const partition = ref ? partitionOf(this.#ports.view(), ref.tid, ref.pid) : undefined;
    const state = partition && replicaOn(partition, failure.to)?.state;
    return state === 'ready' || state === 'joining';
  }

  /** False where it has to wait for somebody. */
  async #carryOut(remedy: Exclude<Remedy, 'none'>, failure: ApplyFailure): Promise<boolean> {
    const given = await this.#giveUp(remedy, failure);
    // That takes its time, in which the sender may have been found dead.
    if (given === null || !this.#mayTouch(failure)) return false;
    const { plane } = this.#ports;
    const { from, to } = failure;
    if (remedy === 'cut') {
      await takeStreamAway(this.#ports, from, to, from);
      await this.#tell(failure, `the stream was made anew, and what came through it is copied again`);
      return true;
    }
    const ref = must(partitionIn(failure), 'partition');
    await plane.streams.stop(from, to, ref);
    if (remedy === 'renew') await this.#renewTable(to, ref);
    const fate = given.length > 0 ? ', its replica there is stale and is copied again' : '';
    await this.#tell(failure, `it is taken out of the stream${fate}`);
    return true;
  }

  /** Whatever counts on the stream counts on it no more, before it is touched. */
  async #giveUp(remedy: Remedy, failure: ApplyFailure): Promise<readonly Partition[] | null> {
    const { view, clock } = this.#ports;
    const { from, to } = failure;
    const only = remedy === 'cut' ? null : partitionIn(failure);
    const leader = (only && partitionOf(view(), only.tid, only.pid)?.leader) ?? from;
    const why = whyText(failure);
    const given = await giveUpReceiver(this.#ports, { leader, follower: to, only, why });
    for (const key of new Set(given?.map((each) => replicaKey(each, to))))
      this.#givenUp.set(key, givenUpAgain(this.#givenUp.get(key), why, clock.nowMs()));
    return given;
  }

  /** What comes to an empty table that is in no stream is passed over. What is there counts no more. */
  async #renewTable(node: NodeId, ref: PartitionRef): Promise<void> {
    const { plane, view } = this.#ports;
    const table = view().tables.get(ref.tid);
    const partition = partitionOf(view(), ref.tid, ref.pid);
    const state = partition && replicaOn(partition, node)?.state;
    // Asked in the moment in which its rows would go. Made stale before, one that is joining is being copied
    // anew.
    if (!table || state === undefined || state === 'ready' || state === 'joining') return;
    await plane.replicas.drop(node, ref);
    await plane.replicas.create(node, table, ref.pid);
  }

  async #tell(failure: ApplyFailure, what: string): Promise<void> {
    const { event, log, view } = this.#ports;
    const { from, to, message, tries, place } = failure;
    log('warn', 'a stream fails at the same place', { from, node: to, table: failure.table, place, tries, message });
    await event({ kind: 'apply-failed', node: to, text: `${describeFailure(view(), failure)}; ${what}` });
  }
}

const whyText = ({ from, message }: ApplyFailure) => `what node ${from} sent could not be applied: ${message}`;

/** `acct 3`; null where the failure is that of no partition there is. */
export function failingPartition(view: ClusterView, failure: ApplyFailure): string | null {
  const ref = partitionIn(failure);
  return ref && view.tables.has(ref.tid) ? partitionName(view, ref) : null;
}

/** `node 2 cannot apply what node 1 sends of acct 3 (12 tries): duplicate key …` */
export function describeFailure(view: ClusterView, failure: ApplyFailure): string {
  const { from, to, table, copying, message, tries } = failure;
  const name = failingPartition(view, failure) ?? table;
  const what = name === null ? '' : ` of ${name}`;
  const verb = copying ? 'copy' : 'apply';
  return `node ${to} cannot ${verb} what node ${from} sends${what} (${tries} tries): ${message}`;
}
