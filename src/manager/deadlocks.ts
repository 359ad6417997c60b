import type { BeatAnswer, BeatReport } from '../api/membership.ts';
import {
  type Deadlock,
  edgeKey,
  findDeadlocks,
  type OpenSession,
  type SeenEdge,
  type Transaction,
  waitEdges,
} from '../catalog/deadlocks.ts';
import type { ClusterView, NodeId } from '../catalog/model.ts';
import { parsePartitionTable, SCHEMAS } from '../catalog/names.ts';
import type { Clock } from '../core/clock.ts';

export interface DeadlockPorts {
  clock: Clock;
  view(): ClusterView;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/** What a node has last said goes for this long; a beat may take 2 s. */
const REPORT_MS = 3_000;
/** A victim whose node has not been heard to have ended it by then is looked for anew. */
const CONDEMNED_MS = 5_000;
/** Events are kept in the meta store: of a flood of deadlocks some are only counted. */
const EVENTS_AT_ONCE = 100;
const EVENT_EVERY_MS = 1_000;

type DeadlockReport = Pick<BeatReport, 'node' | 'sessions' | 'answeredMs'>;

interface Report {
  readonly sessions: OpenSession[];
  readonly heardMs: number;
  /** It was made after this moment. */
  readonly madeAfterMs: number;
}

interface Condemned {
  readonly victim: Transaction;
  readonly detail: string;
  readonly sinceMs: number;
}

/**
 * Looks for deadlocks over several nodes at every beat, and has the node of the youngest transaction of each
 * end it. Reports of two nodes are never of the same moment: a circle counts when a moment is known at which
 * all of its waits were there (`SeenEdge`). Until then the nodes in it are asked to beat again at once.
 */
export class DeadlockWatch {
  readonly #ports: DeadlockPorts;
  readonly #reports = new Map<NodeId, Report>();
  /** When each wait was first heard of, by `edgeKey`, without a break since. */
  #firstMs = new Map<string, number>();
  readonly #condemned = new Map<string, Condemned>();
  #suspects = new Set<NodeId>();
  #eventsLeft = EVENTS_AT_ONCE;
  #eventsAtMs = 0;
  #untold = 0;

  constructor(ports: DeadlockPorts) {
    this.#ports = ports;
  }

  /** Takes a node's report; gives what it is to end, and whether it is to beat again at once. */
  async hear({
    node,
    sessions,
    answeredMs,
  }: DeadlockReport): Promise<Pick<BeatAnswer, 'heardAtMs' | 'deadlocks' | 'soon'>> {
    const nowMs = this.#ports.clock.nowMs();
    const before = this.#reports.get(node);
    this.#reports.delete(node);
    if (sessions) {
      const open = sessions.map(({ ageMs, ...session }) => ({ ...session, startMs: nowMs - ageMs }));
      const startsKept = open.map((session) => ({ ...session, startMs: startBefore(before, session) }));
      // One that has been under way for long was made before the one before it was heard; what another
      // manager answered goes by another clock.
      const madeAfterMs = Math.min(answeredMs ?? -Infinity, before?.heardMs ?? -Infinity);
      this.#reports.set(node, { sessions: startsKept, heardMs: nowMs, madeAfterMs });
    }
    for (const [id, report] of this.#reports) if (nowMs - report.heardMs > REPORT_MS) this.#reports.delete(id);
    this.#forgive(node, nowMs);
    await this.#look(nowMs);
    const victims = [...this.#condemned.values()].filter((c) => c.victim.node === node);
    const deadlocks = victims.map(({ victim: { processId, xact }, detail }) => ({ pid: processId, xact, detail }));
    return { heardAtMs: nowMs, deadlocks, soon: this.#suspects.has(node) || deadlocks.length > 0 };
  }

  async #look(nowMs: number): Promise<void> {
    const edges = waitEdges(new Map([...this.#reports].map(([node, { sessions }]) => [node, sessions])));
    const seen = edges.map((edge): SeenEdge => {
      const firstMs = this.#firstMs.get(edgeKey(edge)) ?? nowMs;
      return { ...edge, firstMs, lastMs: this.#reports.get(edge.node)?.madeAfterMs ?? -Infinity };
    });
    this.#firstMs = new Map(seen.map((edge) => [edgeKey(edge), edge.firstMs]));
    const ended = (t: Transaction) => this.#condemned.has(t.id);
    const { deadlocks, suspects } = findDeadlocks(
      seen.filter((e) => !ended(e.from) && !ended(e.to)),
      nowMs,
    );
    this.#suspects = suspects;
    for (const deadlock of deadlocks) await this.#condemn(deadlock, nowMs);
  }

  async #condemn({ victim, cycle }: Deadlock, nowMs: number): Promise<void> {
    const lines = cycle.map((edge) => describe(edge, this.#ports.view()));
    this.#condemned.set(victim.id, { victim, detail: lines.join('\n'), sinceMs: nowMs });
    this.#suspects.add(victim.node);
    const text = `process ${victim.processId} of node ${victim.node} was ended, the youngest of ${cycle.length === 1 ? 'one that waits for itself' : `${cycle.length} that wait for each other`}: ${lines.join(' ')}`;
    await this.#tell(text, victim.node, nowMs);
  }

  async #tell(text: string, node: NodeId, nowMs: number): Promise<void> {
    const earned = Math.floor((nowMs - this.#eventsAtMs) / EVENT_EVERY_MS);
    if (earned > 0) {
      this.#eventsLeft = Math.min(EVENTS_AT_ONCE, this.#eventsLeft + earned);
      this.#eventsAtMs = nowMs;
    }
    if (this.#eventsLeft === 0) {
      this.#untold += 1;
      return;
    }
    this.#eventsLeft -= 1;
    const more = this.#untold === 0 ? '' : ` (${this.#untold} more before it are not listed)`;
    this.#untold = 0;
    // Whoever waits is not to wait for the meta store.
    await this.#ports
      .event({ kind: 'deadlock', node, text: `${text}${more}` })
      .catch((error) => this.#ports.log('warn', 'a deadlock could not be told of', { error: String(error) }));
  }

  /** Forgets who has been ended: a node that reports its transaction no more, or has not for long. */
  #forgive(node: NodeId, nowMs: number): void {
    const open = this.#reports.get(node)?.sessions;
    for (const [id, { victim, sinceMs }] of this.#condemned) {
      const isOver =
        victim.node === node && open && !open.some((s) => s.pid === victim.processId && s.xact === victim.xact);
      if (isOver || nowMs - sinceMs > CONDEMNED_MS) this.#condemned.delete(id);
    }
  }
}

/** By the report that first told of a transaction: later ones were under way for another time. */
function startBefore(before: Report | undefined, session: OpenSession): number {
  return before?.sessions.find((s) => s.pid === session.pid && s.xact === session.xact)?.startMs ?? session.startMs;
}

/**
 * `Process 4711 of node 1 waits on node 3 (process 812 there) for ShareLock on transaction 748, acct
 * partition 2; blocked by process 99 of node 2.`
 */
function describe({ from, to, node, waiter, wait }: SeenEdge, view: ClusterView): string {
  const there = from.node === node ? '' : ` on node ${node} (process ${waiter} there)`;
  const on = wait.relation === null ? '' : `, ${nameOf(wait.relation, view)}`;
  return `Process ${from.processId} of node ${from.node} waits${there} for ${wait.lock}${on}; blocked by process ${to.processId} of node ${to.node}.`;
}

/** What users know of it: `acct partition 2` for `tide_data.t4_p2`. */
function nameOf(relation: string, view: ClusterView): string {
  const [schema = '', name = ''] = relation.split('.');
  if (schema !== SCHEMAS.data && schema !== SCHEMAS.hinge) return relation;
  const { tid, pid } = parsePartitionTable(name);
  const table = view.tables.get(tid);
  return table ? `${table.name} partition ${pid}` : relation;
}
