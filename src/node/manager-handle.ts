import type { AdminCommand } from '../api/commands.ts';
import type { BeatAnswer, BeatReport, JoinAnswer, JoinRequest, MetaTransfer } from '../api/membership.ts';

/** The manager as the node process sees it; `main.ts` passes in the real one. */
export interface ManagerHandle {
  run(command: AdminCommand): Promise<unknown>;
  join(request: JoinRequest): Promise<JoinAnswer>;
  beat(report: BeatReport): Promise<BeatAnswer>;
  /** False in a cluster that has just begun. */
  hasMembers(): boolean;
  /** The meta store finds no room on its disk: operations wait. */
  readonly storeIsFull: boolean;
  /** HOST:PORT of a member that is alive and can take the meta store. Throws what speaks against it. */
  successor(node: number): string;
  /** Lets go of everything and gives the meta store's contents; the manager is stopped then. */
  stopAndExport(): Promise<MetaTransfer['entries']>;
  stop(): Promise<void>;
}

/** Makes a meta store of `entries` in `directory`, in place of whatever is there. */
export type ImportMeta = (directory: string, entries: MetaTransfer['entries']) => Promise<void>;

/** Opens the meta store in `directory`, begins the cluster in it where it is new, and runs the manager. */
export type StartManager = (facts: {
  directory: string;
  home: number;
  clusterId: string;
  startMode: 'start' | 'start-single-replica';
  minNodes: number | undefined;
  log: (level: 'info' | 'warn' | 'error', message: string, facts: object) => void;
}) => Promise<ManagerHandle>;
