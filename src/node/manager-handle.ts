import type { AdminCommand } from '../api/commands.ts';
import type { BeatAnswer, BeatReport, JoinAnswer, JoinRequest } from '../api/membership.ts';

/** The manager as the node process sees it; `main.ts` passes in the real one. */
export interface ManagerHandle {
  run(command: AdminCommand): Promise<unknown>;
  join(request: JoinRequest): Promise<JoinAnswer>;
  beat(report: BeatReport): Promise<BeatAnswer>;
  stop(): Promise<void>;
}

/** Opens the meta store in `directory`, begins the cluster in it where it is new, and runs the manager. */
export type StartManager = (facts: {
  directory: string;
  home: number;
  clusterId: string;
  startMode: 'start' | 'start-single-replica';
  minNodes: number | undefined;
  log: (level: 'info' | 'warn' | 'error', message: string, facts: object) => void;
}) => Promise<ManagerHandle>;
