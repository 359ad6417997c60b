import type { ManagerCommand } from '../api/commands.ts';
import type { BeatAnswer, BeatReport, JoinAnswer, JoinRequest, MetaTransfer, StartRequest } from '../api/membership.ts';
import type { TideError } from '../core/errors.ts';
import type { Claim } from '../core/starts.ts';
import type { Topology } from '../routing/topology.ts';
import type { MetaStore, SharedStore } from '../store/meta-store.ts';
import type { MetaSink } from './meta-transfer.ts';

/** The manager as the node process sees it; `adapters.ts` passes in the real one. */
export interface ManagerHandle {
  run(command: ManagerCommand): Promise<unknown>;
  join(request: JoinRequest): Promise<JoinAnswer>;
  beat(report: BeatReport): Promise<BeatAnswer>;
  admit(request: StartRequest): Promise<void>;
  /** Tells of the topology now, and after every change. */
  followTopology(hear: (topology: Topology) => void): void;
  /** False in a cluster that has just begun. */
  hasMembers(): boolean;
  /** The meta store finds no room on its disk: operations wait. */
  readonly storeIsFull: boolean;
  /** HOST:PORT of a member that is alive and can take the meta store. Throws what speaks against it. */
  successor(node: number): string;
  /** HOST:PORT of every member that is alive. */
  liveMembers(): string[];
  /** Lets go of everything and gives the meta store's contents; the manager is stopped then. */
  stopAndExport(): Promise<MetaTransfer['entries']>;
  stop(): Promise<void>;
  /** Lets go at once, in the middle of whatever it does: another manager goes on. */
  abandon(): Promise<void>;
}

/** What a node needs of a meta store that is shared; `adapters.ts` passes in the real one. */
export interface SharedPorts {
  /** Throws META_URL_INVALID; whether anybody answers shows at the first call. */
  open(url: string): SharedStore;
  /** The cluster in it, null where there is none. Throws META_UNREACHABLE. */
  look(store: SharedStore): Promise<{ clusterId: string; founder: string | null; hasMembers: boolean } | null>;
  /** Writes the facts of a new cluster, unless somebody was faster. */
  found(
    store: SharedStore,
    facts: { clusterId: string; startMode: 'start' | 'start-single-replica'; founder: string; minNodes?: number },
  ): Promise<void>;
}

/** Begins a meta store in `directory`, in place of whatever is there. */
export type ImportMeta = (directory: string) => Promise<MetaSink>;

/** What a manager is given with the seat. */
export interface SeatGrant {
  /** Refuses every write from the moment the seat is somebody else's. */
  store: MetaStore;
  /** Higher than that of every manager before. */
  term: number;
  /** Milliseconds for which nobody else can have the seat. */
  leftMs(): number;
  /** The manager cannot go on: the seat is for whoever takes it next. */
  giveUp(why: string): void;
}

/**
 * Where the manager finds the cluster's facts: in a store of its own, which begins the cluster where it is
 * new, or in the shared one.
 */
export type MetaPlace = { directory: string } | (SeatGrant & { url: string });

export type StartManager = (facts: {
  meta: MetaPlace;
  home: number;
  clusterId: string;
  startMode: 'start' | 'start-single-replica';
  minNodes: number | undefined;
  /** Of the node it runs in. */
  start: Claim;
  /** It is not the newest start of this node: nothing may be done in its name any more. */
  overtaken: (error: TideError) => void;
  /** The manager cannot go on, for a defect: it is to be let go of, and another started. */
  broken: (error: unknown) => void;
  log: (level: 'info' | 'warn' | 'error', message: string, facts: object) => void;
}) => Promise<ManagerHandle>;
