import type { CatalogChange } from '../catalog/change.ts';
import type { ClusterView, LoadView, NodeId } from '../catalog/model.ts';
import type { ApplyError } from '../core/apply-error.ts';
import type { Clock } from '../core/clock.ts';
import type { DataPlane, PartitionRef } from './ports.ts';

/** Everything the runner needs from outside: time, chance, the catalog and the servers. */
export interface RunnerPorts {
  clock: Clock;
  random: () => number;
  plane: DataPlane;
  view(): ClusterView;
  load(): LoadView;
  alive(node: NodeId): boolean;
  copyFailure(from: NodeId, to: NodeId, ref: PartitionRef): ApplyError | undefined;
  commit(changes: CatalogChange[]): Promise<void>;
  event(entry: { kind: string; text: string; node?: NodeId; operation?: number }): Promise<void>;
  log(level: 'info' | 'warn' | 'error', message: string, facts: object): void;
  /**
   * Called once, when the runner has let go of everything for a defect: only another, which begins with the
   * journal, goes on.
   */
  broken(error: unknown): void;
}
