import type { NodeId } from './model.ts';

/**
 * Finds deadlocks over several servers in what their nodes report: PostgreSQL's own detector sees the locks
 * of one server, and a transaction that waits in `postgres_fdw` waits for nothing there.
 *
 * A commit that waits for its followers is no edge: an apply worker takes locks on followers' tables only,
 * which no client's transaction holds.
 */

/** A client's session, or one that came from another node, with a transaction open on a server. */
export interface OpenSession {
  /** Of its process, as nodes report it; so in `via` and `pids`. */
  pid: number;
  /**
   * Start of the session and of its transaction: with the process, the identity of the transaction on its
   * server.
   */
  xact: string;
  /** When the transaction began, by the clock of whoever compares the reports, milliseconds. */
  startMs: number;
  /** Inside a statement. */
  active: boolean;
  /** The session whose `postgres_fdw` has opened this one. */
  via: { node: NodeId; pid: number } | null;
  waits: LockWait | null;
}

export interface LockWait {
  /** When the wait began, in the server's words: the same value is the same wait. */
  since: string;
  /** Sessions that hold the lock, or stand before this one in its queue. */
  pids: number[];
  /** `ShareLock on transaction 748` */
  lock: string;
  /** `tide_data.t4_p0`, where it is known. */
  relation: string | null;
}

/**
 * One transaction waits for another: seen on `node`, where process `waiter` of the first waits for process
 * `blocker` of the second.
 */
export interface WaitEdge {
  from: Transaction;
  to: Transaction;
  node: NodeId;
  waiter: number;
  blocker: number;
  wait: LockWait;
}

/** A transaction of a client, named by the session that the client has: node and process. */
export interface Transaction {
  /** `2/4711/…`: no other transaction has it. */
  id: string;
  node: NodeId;
  processId: number;
  xact: string;
  startMs: number;
}

/**
 * A wait that has lasted over several reports: there without a break from `firstMs` on, and still there at
 * `lastMs`, if that is not before.
 */
export interface SeenEdge extends WaitEdge {
  firstMs: number;
  lastMs: number;
}

export interface Deadlock {
  victim: Transaction;
  /** Each waits for the next, the last for the first. */
  cycle: SeenEdge[];
}

/**
 * A remote transaction cannot be older than the one that opened it, but reports of two nodes are made at
 * different moments.
 */
const SLACK_MS = 1_500;
/**
 * PostgreSQL ends a deadlock within one server after `deadlock_timeout`, 1 s; one that outlives this is
 * treated like any other.
 */
const LOCAL_MS = 3_000;
/** Longer ways lead in a circle. */
const HOPS_MAX = 16;

/**
 * Who waits for whom, by the last report of every node. What is not known to be a client's transaction
 * neither waits nor blocks.
 */
export function waitEdges(reports: ReadonlyMap<NodeId, readonly OpenSession[]>): WaitEdge[] {
  const sessions = new Map<string, OpenSession>();
  for (const [node, open] of reports) for (const session of open) sessions.set(`${node}/${session.pid}`, session);
  const edges: WaitEdge[] = [];
  for (const [node, open] of reports) {
    for (const { pid: waiter, waits } of open) {
      const from = waits ? clientOf(sessions, node, waiter) : null;
      if (!waits || !from) continue;
      for (const blocker of new Set(waits.pids)) {
        const to = clientOf(sessions, node, blocker);
        if (to) edges.push({ from, to, node, waiter, blocker, wait: waits });
      }
    }
  }
  return edges;
}

/**
 * The transaction of the client behind a session, however many nodes it came through; null where one of them
 * does not tell of it.
 */
function clientOf(sessions: ReadonlyMap<string, OpenSession>, node: NodeId, processId: number): Transaction | null {
  const first = sessions.get(`${node}/${processId}`);
  let at = { node, session: first };
  for (let hops = 0; at.session && hops < HOPS_MAX; hops++) {
    const { via } = at.session;
    if (!via) {
      const { pid: client, xact, startMs } = at.session;
      return { id: `${at.node}/${client}/${xact}`, node: at.node, processId: client, xact, startMs };
    }
    const opener = sessions.get(`${via.node}/${via.pid}`);
    // Left behind by a transaction that has ended since, or by somebody who only says to come from there.
    if (opener && opener.startMs > at.session.startMs + SLACK_MS) return null;
    if (opener && first?.waits && !opener.active) return null;
    at = { node: via.node, session: opener };
  }
  return null;
}

/** The same value as long as it is the same transactions in the same wait. */
export function edgeKey(edge: WaitEdge): string {
  return `${edge.from.id} ${edge.to.id} ${edge.node}/${edge.waiter}/${edge.blocker} ${edge.wait.since}`;
}

/**
 * Deadlocks that surely are some, and the nodes that have to report again before others can be told from
 * waits of different moments. Waits that all existed at one moment, in a circle, end by themselves never. The
 * victims are enough to leave no circle, each the youngest of its own.
 */
export function findDeadlocks(
  edges: readonly SeenEdge[],
  nowMs: number,
): { deadlocks: Deadlock[]; suspects: Set<NodeId> } {
  const deadlocks: Deadlock[] = [];
  const suspects = new Set<NodeId>();
  for (const group of entangled(withoutLocal(edges, nowMs), byTransaction)) {
    const momentMs = Math.min(...group.map((e) => e.lastMs));
    const sure = breakCycles(group.filter((e) => e.firstMs <= momentMs));
    deadlocks.push(...sure);
    const victims = new Set(sure.map((d) => d.victim.id));
    const left = group.filter((e) => !victims.has(e.from.id) && !victims.has(e.to.id));
    for (const { node } of entangled(left, byTransaction).flat()) suspects.add(node);
  }
  return { deadlocks, suspects };
}

interface Ends {
  from: string;
  to: string;
}

const byTransaction = (e: WaitEdge): Ends => ({ from: e.from.id, to: e.to.id });
/** As PostgreSQL sees it. */
const byProcess = (e: WaitEdge): Ends => ({ from: `${e.node}/${e.waiter}`, to: `${e.node}/${e.blocker}` });

/** Leaves out circles of processes of one server, which it breaks itself, unless they last. */
function withoutLocal(edges: readonly SeenEdge[], nowMs: number): SeenEdge[] {
  const young = (group: readonly SeenEdge[]) => nowMs - Math.max(...group.map((e) => e.firstMs)) < LOCAL_MS;
  const local = new Set(entangled(edges, byProcess).filter(young).flat());
  return edges.filter((e) => !local.has(e));
}

/** The youngest of a cycle is taken out, until there is none. */
function breakCycles(edges: readonly SeenEdge[]): Deadlock[] {
  const found: Deadlock[] = [];
  let left = edges;
  for (;;) {
    const cycle = shortestCycle(left);
    if (!cycle) return found;
    const victim = cycle.map((e) => e.from).reduce((a, b) => (isYounger(b, a) ? b : a));
    found.push({ victim, cycle });
    left = left.filter((e) => e.from.id !== victim.id && e.to.id !== victim.id);
  }
}

/** Of the same age it is always the same one. */
function isYounger(a: Transaction, b: Transaction): boolean {
  return a.startMs === b.startMs ? a.id > b.id : a.startMs > b.startMs;
}

function shortestCycle(edges: readonly SeenEdge[]): SeenEdge[] | null {
  const from = groupBy(edges, (e) => e.from.id);
  let best: SeenEdge[] | null = null;
  for (const start of [...from.keys()].sort()) {
    const cycle = wayBack(from, start);
    if (cycle && (!best || cycle.length < best.length)) best = cycle;
    if (best && best.length <= 2) break;
  }
  return best;
}

/** The shortest way from a transaction to itself. */
function wayBack(from: ReadonlyMap<string, SeenEdge[]>, start: string): SeenEdge[] | null {
  const reachedBy = new Map<string, SeenEdge>();
  const queue = [start];
  for (let at = queue.shift(); at !== undefined; at = queue.shift()) {
    for (const edge of from.get(at) ?? []) {
      if (reachedBy.has(edge.to.id)) continue;
      reachedBy.set(edge.to.id, edge);
      if (edge.to.id === start) return backwards(reachedBy, start);
      queue.push(edge.to.id);
    }
  }
  return null;
}

function backwards(reachedBy: ReadonlyMap<string, SeenEdge>, start: string): SeenEdge[] {
  const way: SeenEdge[] = [];
  let at = start;
  do {
    const edge = reachedBy.get(at) as SeenEdge;
    way.unshift(edge);
    at = edge.from.id;
  } while (at !== start);
  return way;
}

/**
 * Edges that lie on some circle, in groups that have no vertex in common: the strongly connected components
 * (Kosaraju).
 */
function entangled<E extends WaitEdge>(edges: readonly E[], endsOf: (edge: E) => Ends): E[][] {
  const ends = edges.map((edge) => ({ edge, ...endsOf(edge) }));
  const forth = groupBy(ends, (e) => e.from);
  const back = groupBy(ends, (e) => e.to);
  const order: string[] = [];
  const visited = new Set<string>();
  for (const vertex of forth.keys()) visit(vertex, (v) => (forth.get(v) ?? []).map((e) => e.to), visited, order);
  const group = new Map<string, string>();
  const grouped = new Set<string>();
  for (const root of order.toReversed()) {
    const members: string[] = [];
    visit(root, (v) => (back.get(v) ?? []).map((e) => e.from), grouped, members);
    for (const member of members) group.set(member, root);
  }
  const inside = ends.filter((e) => group.get(e.from) === group.get(e.to));
  return [...groupBy(inside, (e) => group.get(e.from) ?? '').values()].map((g) => g.map((e) => e.edge));
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

/** Depth first, without recursion; `done` takes each vertex when all behind it are done. */
function visit(root: string, next: (v: string) => string[], visited: Set<string>, done: string[]): void {
  if (visited.has(root)) return;
  visited.add(root);
  const path = [{ vertex: root, ahead: next(root) }];
  for (let at = path.at(-1); at; at = path.at(-1)) {
    const step = at.ahead.pop();
    if (step === undefined) {
      done.push(at.vertex);
      path.pop();
    } else if (!visited.has(step)) {
      visited.add(step);
      path.push({ vertex: step, ahead: next(step) });
    }
  }
}
