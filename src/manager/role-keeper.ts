import type { ClusterView, NodeId } from '../catalog/model.ts';
import { connectedNodes } from '../catalog/view.ts';
import { messageOf } from '../core/errors.ts';
import { Rounds } from '../core/rounds.ts';
import type { Nodes } from '../operations/ports.ts';
import { ROLES_FORMAT } from '../store/meta-store.ts';

export interface RolePorts {
  plane: { nodes: Pick<Nodes, 'useOwnRoles' | 'weakenClients'> };
  view(): ClusterView;
  alive(node: NodeId): boolean;
  /** The newest format of the meta store that the node's program knows. */
  metaFormat(node: NodeId): number;
  /** Keeps programs out of the meta store that work as the clients' role. */
  separate(): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
}

/**
 * Takes clients of a cluster that began with version 0.1.0 the rights of superusers, which pgtide itself had
 * used there (ADR 0012). Not before every node is there and runs a program that does without: until then each
 * may go back to the old one. Then nodes reach each other as roles of their own, the store is closed to old
 * programs, and node after node is changed, beside its traffic. A node that is away is changed when it is
 * back.
 */
export class RoleKeeper {
  readonly #ports: RolePorts;
  readonly #rounds: Rounds<NodeId>;
  /** Changed, and looked at once more: a server may be at starting something on what it read before. */
  readonly #done = new Set<NodeId>();
  readonly #announced = new Set<NodeId>();
  /** What was told last, of all and of a node. */
  readonly #told = new Map<NodeId | 'all', string>();

  constructor(ports: RolePorts) {
    this.#ports = ports;
    this.#rounds = new Rounds((node, error) => this.#tellOnce(node, messageOf(error)));
  }

  async round(): Promise<void> {
    const { view, alive } = this.#ports;
    if (!view().ownRoles && !(await this.#separate())) return;
    const due = connectedNodes(view()).filter((n) => n.state !== 'joining' && alive(n.id) && !this.#done.has(n.id));
    this.#rounds.begin(
      due.map((n) => n.id),
      (node) => this.#weaken(node),
    );
  }

  /** Until the rounds that were begun have ended. */
  idle(): Promise<void> {
    return this.#rounds.idle();
  }

  /** False while a node is away, or runs a program that would be kept out. */
  async #separate(): Promise<boolean> {
    const { plane, view, alive, metaFormat, separate, event } = this.#ports;
    const nodes = connectedNodes(view()).map((n) => n.id);
    const behind = () => connectedNodes(view()).filter((n) => !alive(n.id) || metaFormat(n.id) < ROLES_FORMAT);
    const missing = behind().map((n) => n.id);
    if (missing.length > 0) {
      this.#tellOnce('all', `nodes ${missing.join(', ')} are away or run an older program`);
      return false;
    }
    for (const node of nodes) await plane.nodes.useOwnRoles(node);
    // Asked again after all that takes its time.
    if (behind().length > 0 || connectedNodes(view()).length !== nodes.length) return false;
    await separate();
    const text =
      'all nodes run this version: clients lose the rights of superusers, and older programs do not start on these stores any more';
    await event({ kind: 'roles-separated', text });
    return true;
  }

  async #weaken(node: NodeId): Promise<void> {
    const { plane, event } = this.#ports;
    const outcome = await plane.nodes.weakenClients(node);
    if (outcome !== 'already' && outcome !== 'done') {
      this.#tellOnce(node, outcome);
      return;
    }
    if (outcome === 'already') this.#done.add(node);
    // What was left at the last look has gone by itself.
    const isNews = outcome === 'done' || this.#told.has(node);
    if (!isNews || this.#announced.has(node)) return;
    this.#announced.add(node);
    await event({ kind: 'clients-weakened', node, text: `clients of node ${node} are no superusers any more` });
  }

  #tellOnce(about: NodeId | 'all', why: string): void {
    if (this.#told.get(about) === why) return;
    this.#told.set(about, why);
    const facts = about === 'all' ? { why } : { node: about, why };
    this.#ports.log('info', 'clients are superusers still', facts);
  }
}
