import type { NodeId } from '../catalog/model.ts';
import type { QuorumDemand } from '../catalog/quorum.ts';
import type { Plan } from '../placement/plan.ts';
import type { Patience } from './pause-budget.ts';

/**
 * What operations remember in the journal, by the steps that share it; what one kind alone remembers stands
 * with its steps. The keys are those on disk. All of it is absent until a step, or who submits the operation,
 * has said it.
 */

export interface QuorumData {
  /** What the nodes' commits have to wait for until the operation ends (`steps/protect.ts`). */
  demands?: readonly QuorumDemand[];
}

export interface HingeData {
  /** What was tried in vain at the last hinge that was to be turned (`steps/patience.ts`). */
  patience?: Patience & { readonly at: string };
}

export interface CopyData extends QuorumData {
  /** The slot of the copy on its source, once the copy has begun. */
  copySlot?: string;
  copyFrom?: NodeId;
  /** Since when the copy waits for room on its target. */
  noRoomSinceMs?: number;
  /** Undone as far as it can be before somebody leads in the place of this node, which is away. */
  awaitsLeader?: NodeId | null | undefined;
}

export interface LeaderData extends QuorumData, HingeData {
  /** The old leader, once the change has begun. */
  source?: NodeId;
  /** Under which the next one is to lead. */
  epoch?: number;
  /** A swing has been prepared once before. */
  tried?: true;
  /** The next leader's snapshots from before this are older than the swing. */
  mark?: string;
}

export interface PlanData {
  /** That it began with, for whoever looks. */
  plan?: Plan;
  bytesPlanned?: number;
  /** The newest of its moves when it began to take them back. */
  restoring?: number;
}

/** What an operation's own steps are not the only ones to look at. */
export type KnownData = QuorumData &
  Pick<LeaderData, 'source'> &
  Pick<CopyData, 'awaitsLeader'> &
  Pick<PlanData, 'plan' | 'bytesPlanned'>;
