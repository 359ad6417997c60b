import type { LoadView, NodeId } from '../catalog/model.ts';
import { subscriptionName } from '../catalog/names.ts';
import {
  type Cut,
  type DiskState,
  diskOf,
  diskState,
  freePercent,
  heldByTransactionBytes,
  receiversToCut,
  type SlotState,
} from '../catalog/retention.ts';
import { partitionKey } from '../catalog/view.ts';
import { messageOf } from '../core/errors.ts';
import { Rounds } from '../core/rounds.ts';
import { humanBytes } from '../core/units.ts';
import type { DataPlane } from '../operations/ports.ts';
import { waitForTransaction } from '../operations/waiting.ts';
import { type GiveUpPorts, giveUpFollower, type TakeAwayPorts, takeStreamAway } from './give-up.ts';
import type { Inspector } from './ports.ts';

export interface WalPorts extends GiveUpPorts, TakeAwayPorts {
  plane: Pick<DataPlane, 'streams' | 'slots' | 'sessions'>;
  inspector: Pick<Inspector, 'slots'>;
  load(): LoadView;
  event(entry: { kind: string; text: string; node?: NodeId }): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
}

/**
 * Keeps the WAL that nodes hold for others from filling their disks. A receiver that is too far behind, or
 * behind on a full disk, is cut: what it follows there is stale and will be copied again, no commit waits for
 * it any more, and its slot goes. So are followers whose slot is gone or given up by PostgreSQL, which would
 * otherwise look in step for ever. `catalog/retention.ts` decides.
 */
export class WalKeeper {
  readonly #ports: WalPorts;
  readonly #rounds: Rounds<NodeId>;
  /** Streams without a slot at the last look: one that is being made anew has none for a moment. */
  readonly #slotless = new Set<string>();
  readonly #told = new Map<NodeId, { disk: DiskState; held: boolean }>();

  constructor(ports: WalPorts) {
    this.#ports = ports;
    this.#rounds = new Rounds((node, error) =>
      ports.log('warn', 'the WAL of a node could not be looked after', { node, error: messageOf(error) }),
    );
  }

  round(nodes: readonly NodeId[]): void {
    this.#rounds.begin(nodes, (node) => this.#look(node));
  }

  idle(): Promise<void> {
    return this.#rounds.idle();
  }

  async #look(node: NodeId): Promise<void> {
    const { inspector, view, load } = this.#ports;
    const slots = await inspector.slots(node);
    const disk = diskOf(load(), node);
    await this.#tell(node, slots);
    for (const cut of receiversToCut(view(), node, disk, slots)) {
      const stream = subscriptionName(node, cut.to);
      const known = this.#slotless.delete(stream);
      if (cut.why !== 'lost' || known) await this.#cut(node, cut);
      else this.#slotless.add(stream);
    }
  }

  async #cut(node: NodeId, cut: Cut): Promise<void> {
    const { plane, event } = this.#ports;
    const { to } = cut;
    const partitions = await giveUpFollower(this.#ports, { leader: node, follower: to, why: whyCut(node, cut) });
    if (partitions === null) return;
    await plane.slots.drop(node, subscriptionName(node, to));
    await event({ kind: 'stream-cut', node: to, text: cutText(node, { ...cut, partitions }) });
    await takeStreamAway(this.#ports, node, to, to);
  }

  /** Says once that a disk runs full or has room again, and that somebody's transaction holds up the WAL. */
  async #tell(node: NodeId, slots: ReadonlyMap<string, SlotState>): Promise<void> {
    const { view, load, plane, event } = this.#ports;
    const disk = diskOf(load(), node);
    const now = disk ? diskState(disk, view().settings) : 'ok';
    const heldBytes = heldByTransactionBytes(view().settings, disk, slots.values());
    const told = this.#told.get(node) ?? { disk: 'ok', held: false };
    this.#told.set(node, { disk: now, held: heldBytes > 0 });
    if (disk && now !== told.disk)
      await event({ kind: `disk-${now}`, node, text: diskText(node, now, freePercent(disk)) });
    if (heldBytes > 0 && !told.held) {
      const writer = await plane.sessions.oldestWriter(node);
      const whose = writer
        ? waitForTransaction(view().settings, node, writer, 'it goes when this transaction ends').text
        : 'it is not open any more';
      await event({ kind: 'wal-held', node, text: `node ${node} keeps ${humanBytes(heldBytes)} of WAL: ${whose}` });
    }
  }
}

function diskText(node: NodeId, state: DiskState, percent: number): string {
  const has = `node ${node} has ${percent} % of its disk left`;
  if (state === 'full') return `${has}: nothing is copied to it, and it keeps little WAL for others`;
  return state === 'low'
    ? `${has}, less than disk.margin: no replica goes there`
    : `${has}: replicas may go there again`;
}

function cutText(node: NodeId, cut: Cut): string {
  const keys = cut.partitions.map((p) => partitionKey(p.tid, p.pid));
  const again =
    keys.length === 0
      ? ''
      : `; to be copied again: ${keys.slice(0, 8).join(', ')}${keys.length > 8 ? ` and ${keys.length - 8} more` : ''}`;
  return `${whyCut(node, cut)}${again}`;
}

function whyCut(node: NodeId, { to, why, behindBytes }: Cut): string {
  if (why === 'lost') return `node ${node} has no WAL any more for what node ${to} has missed`;
  const disk = why === 'disk-full' ? ', and its disk is full' : '';
  return `node ${node} keeps no more WAL for node ${to}, which is ${humanBytes(behindBytes)} behind${disk}`;
}
