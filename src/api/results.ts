import type { LocalData } from '../core/local-data.ts';
import type { WaitReason } from '../core/wait-reason.ts';

/**
 * What each admin command answers. Bytes are bytes, times are ISO 8601 UTC, durations say their unit in their
 * name.
 */

export interface NodeStatusRow {
  id: number;
  address: string;
  sqlAddress: string;
  httpAddress: string;
  build: string;
  startedAt: string;
  updatedAt: string | null;
  locality: string;
  attrs: string;
  startMode: string;
  /** It beats, its PostgreSQL answers, and it has not been decommissioned. */
  isAvailable: boolean;
  isLive: boolean;
  isManager: boolean;
  state: string;
  /**
   * `live`; `starting`: not let in yet; `silent`: no word from it, and no proof that it is down; `down`:
   * proved; `out`: others lead in its place; `fenced`: back, and being cleaned up; `offline`: somebody said
   * so; `gone`: for good.
   */
  condition: 'live' | 'starting' | 'silent' | 'down' | 'out' | 'fenced' | 'offline' | 'gone';
  /** Replicas on it, whatever their state; from the catalog. */
  replicas: number;
  leaders: number;
  isDecommissioning: boolean;
  isDraining: boolean;
  partitionsUnavailable: number;
  partitionsUnderReplicated: number;
  /** Of its replicas, as last measured. */
  bytes: number;
  /** How long ago it was last asked for all sizes with success; null: not measured yet. */
  measuredAgeMs: number | null;
  diskTotalBytes: number | null;
  diskFreeBytes: number | null;
  /** What it is sent by others and cannot apply, with PostgreSQL's own message; null where nothing fails. */
  replication: string | null;
  /**
   * `low`: less than `disk.margin` is free, it takes no replica. `full`: nothing is copied there any more.
   * null: not known yet.
   */
  disk: 'ok' | 'low' | 'full' | null;
}

export interface ManagersResult {
  /** `etcd://…`, null: embedded, in the leader's store. */
  meta: string | null;
  managers: ManagerRow[];
}

/** A node that manages, or could take over: it lives, and reaches the meta store. */
export interface ManagerRow {
  node: number;
  endpoint: string;
  role: 'leader' | 'standby';
  /** Of the leader: higher than that of every manager before; null where the meta store is embedded. */
  term: number | null;
}

export interface MoveRow {
  kind: string;
  table: string;
  pid: number;
  from: number | null;
  to: number | null;
  bytes: number;
  reason: string;
}

export interface BalanceRow {
  node: number;
  replicasBefore: number;
  replicasAfter: number;
  leadersBefore: number;
  leadersAfter: number;
  bytesBefore: number;
  bytesAfter: number;
}

export interface PlanResult {
  moves: MoveRow[];
  balance: BalanceRow[];
  bytesMoved: number;
  bytesMinimal: number;
  /** Replicas for which no target exists, each with why. */
  blocked: { table: string; pid: number; node: number | null; why: string }[];
  /**
   * What no other node has and would leave with the nodes, where that was accepted; absent: no node leaves.
   */
  localData?: LocalDataRow[];
}

export interface LocalDataRow extends LocalData {
  node: number;
}

/** A command that starts work answers with its operation; a dry run with the plan and no operation. */
export interface StartedResult {
  operation: number | null;
  plan: PlanResult | null;
  /** What no other node has and leaves with the nodes: it was accepted. Absent: no node leaves. */
  localData?: LocalDataRow[];
  /** Of a scale-in: nodes that have left already, and only have to be stopped. */
  out?: { node: number; address: string; httpAddress: string }[];
  /** Nodes that could not be asked whether they hold such data. */
  notLookedAt?: number[];
}

export interface TableRow {
  tid: number;
  schema: string;
  name: string;
  state: string;
  distributeBy: string;
  partitions: number;
  replicas: number;
  /** Rows and bytes of all leaders; null while one of them has not been measured yet. */
  rows: number | null;
  bytes: number | null;
  /** How long ago the oldest of the figures in them was measured; null: not measured yet. */
  measuredAgeMs: number | null;
}

export interface PartitionRow {
  table: string;
  tid: number;
  pid: number;
  node: number;
  endpoint: string;
  role: 'leader' | 'follower';
  state: string;
  isAlive: boolean;
  /**
   * Of the leader's acknowledged commits; null for a follower. quorum: on a live follower too. waits: writes
   * wait for followers that are not alive. refuses: writes fail, for the same reason. leader: on the leader
   * only, for want of a follower. async: the setting.
   */
  durability: 'quorum' | 'waits' | 'refuses' | 'leader' | 'async' | null;
  /** Of a replica that is stale, or whose rows cannot be applied: why. */
  why: string | null;
  epoch: number;
  /** Replayed position in the leader node's WAL, as PostgreSQL prints an LSN; null where unknown. */
  offset: string | null;
  lagBytes: number | null;
  rows: number | null;
  bytes: number | null;
  /**
   * How long ago the oldest figure of this row was measured (size, position, lag); null: not measured yet.
   */
  measuredAgeMs: number | null;
}

export interface OperationRow {
  id: number;
  parent: number | null;
  kind: string;
  /** `acct 3: n1 → n4`, `nodes 3,4` */
  subject: string;
  status: 'queued' | 'running' | 'undoing' | 'done' | 'failed' | 'cancelled';
  /** Name of the step under way. */
  step: string | null;
  percent: number;
  bytesDone: number;
  bytesTotal: number;
  bytesPerSecond: number | null;
  secondsLeft: number | null;
  waitsFor: WaitReason | null;
  createdAt: string;
  startedAt: string | null;
  endedAt: string | null;
  error: { code: string; message: string; hint: string } | null;
}

export interface PauseSummary {
  count: number;
  p50: number;
  p99: number;
  max: number;
}

/** One attempt to swing a hinge: writers of that partition waited `pauseMs`. */
export interface PauseRow {
  table: string;
  pid: number;
  node: number;
  purpose: 'leader' | 'hinge';
  outcome: 'done' | 'backed-off';
  pauseMs: number;
  at: string;
}

export interface PauseOfOperationRow extends PauseRow {
  operation: number;
}

export interface OperationResult extends OperationRow {
  steps: { name: string; status: 'pending' | 'running' | 'done' | 'undone'; noReturn: boolean }[];
  children: OperationRow[];
  pauses: PauseRow[];
  pauseMs: PauseSummary | null;
  plan: PlanResult | null;
  claims: { kind: string; node: number; name: string }[];
}

export interface EventRow {
  seq: number;
  at: string;
  kind: string;
  node: number | null;
  operation: number | null;
  text: string;
}

export interface SettingRow {
  key: string;
  value: string;
  default: string;
  description: string;
}

export interface DoctorRow {
  node: number;
  kind: string;
  name: string;
  why: string;
  fixed: boolean;
}

export interface DoctorResult {
  findings: DoctorRow[];
  /** Nodes that could not be asked, with the reason: what is on them is not known. */
  unreachable: { node: number; why: string }[];
  /**
   * Nodes that were started a second time in the last minutes, from a copy of their store, and where; it was
   * refused. Older managers do not look.
   */
  twins?: { node: number; address: string }[];
}

/** By the `do` of a command. `client.ts` compiles only while every command has one. */
export interface Results {
  'node-status': NodeStatusRow[];
  'node-decommission': StartedResult;
  'node-recommission': StartedResult;
  'node-drain': StartedResult;
  'node-undrain': StartedResult;
  'node-offline': StartedResult;
  'node-recover': StartedResult;
  'node-drop': StartedResult;
  'scale-out': StartedResult;
  'scale-in': StartedResult;
  plan: PlanResult;
  'table-create': { operation: number; table: string; tid: number };
  'table-drop': { operation: number; table: string };
  'table-ls': TableRow[];
  'partition-ls': PartitionRow[];
  'partition-migrate': { operations: number[] };
  'partition-change-leader': { operations: number[] };
  'partition-recover': StartedResult;
  'partition-add-replica': { operations: number[] };
  'partition-del-replica': { operations: number[] };
  'op-ls': OperationRow[];
  'op-show': OperationResult;
  'op-cancel': OperationRow;
  'pause-ls': PauseOfOperationRow[];
  events: EventRow[];
  'setting-ls': SettingRow[];
  'setting-set': SettingRow;
  /** The node that holds the meta store and runs the manager now. */
  'meta-move': { node: number; address: string };
  'meta-migrate': { meta: string };
  'manager-ls': ManagersResult;
  doctor: DoctorResult;
}
