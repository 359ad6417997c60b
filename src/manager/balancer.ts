import type { ClusterView, LoadView } from '../catalog/model.ts';
import { few } from '../core/lists.ts';
import type { Runner } from '../operations/runner.ts';
import { partitionName } from '../placement/naming.ts';
import { type Plan, plan } from '../placement/plan.ts';

/** Operations that move data by a plan of their own, or change what a plan would look at. */
const PLANNERS = new Set([
  'rebalance',
  'decommission',
  'drain-node',
  'join-node',
  'create-table',
  'drop-table',
  'failover',
  'drop-node',
]);

/**
 * A plan has to be wanted this often in a row: sizes are estimates, and a node that joins is not alone yet.
 */
const ROUNDS = 2;
/**
 * While the catalog, the set of live nodes and what is held back stay as they are, only sizes and disks can
 * call for a move: looked at every ten seconds.
 */
const QUIET_ROUNDS = 20;

/**
 * Starts a rebalance when the cluster needs one and nobody else moves data: missing or stale replicas are
 * repaired always, data spreads by itself where `rebalance.auto` is on.
 */
export class Balancer {
  #wanted = 0;
  /**
   * The catalog, the live nodes and what is held back, for which there was nothing to do, and how many rounds
   * ago that was.
   */
  #quiet: { view: ClusterView; load: string; rounds: number } | null = null;
  /** What was last told of replicas that are missing. */
  #missing = '';
  readonly #event: (entry: { kind: string; text: string }) => Promise<void>;

  constructor(event: (entry: { kind: string; text: string }) => Promise<void>) {
    this.#event = event;
  }

  async round(runner: Runner, view: ClusterView, load: LoadView): Promise<void> {
    if (runner.unended().some((r) => PLANNERS.has(r.kind))) {
      this.#wanted = 0;
      return;
    }
    const now = loadKey(load);
    if (this.#quiet?.view === view && this.#quiet.load === now && this.#quiet.rounds < QUIET_ROUNDS) {
      this.#quiet.rounds += 1;
      return;
    }
    const goal = view.settings['rebalance.auto'] ? 'balance' : 'repair';
    const wanted = plan(view, load, { kind: goal });
    this.#quiet = wanted.moves.length === 0 ? { view, load: now, rounds: 0 } : null;
    await this.#tellMissing(view, wanted);
    this.#wanted = wanted.moves.length === 0 ? 0 : this.#wanted + 1;
    if (this.#wanted < ROUNDS) return;
    this.#wanted = 0;
    await runner.submit('rebalance', { goal, why: reasonOf(wanted) }, null, planData(wanted));
  }

  /**
   * A partition that stays without a replica for want of a target is worth a word, and another when that
   * changes.
   */
  async #tellMissing(view: ClusterView, { blocked }: Plan): Promise<void> {
    const missing = blocked.filter((b) => b.node === null);
    const [first] = missing;
    const names = few(missing.map((b) => partitionName(view, b)));
    if (names === this.#missing) return;
    this.#missing = names;
    if (first) await this.#event({ kind: 'replicas-missing', text: `replicas of ${names} are missing: ${first.why}` });
  }
}

function loadKey({ nodes, heldBack = new Map() }: LoadView): string {
  const live = [...nodes.values()].filter((n) => n.alive).map((n) => n.node);
  return [...live, ...heldBack.keys()].join();
}

/** What a plan-driven operation keeps of the plan it began with. */
export function planData(wanted: Plan): { plan: Plan; bytesPlanned: number } {
  return { plan: wanted, bytesPlanned: wanted.bytesMoved };
}

function reasonOf(wanted: Plan): string {
  const [first] = wanted.moves;
  return first ? `${wanted.moves.length} moves; first: ${first.reason}` : 'nothing to do';
}
