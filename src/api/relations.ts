import { snakeCase } from '../core/snake-case.ts';
import type { AdminRequest } from './commands.ts';
import type {
  DoctorRow,
  EventRow,
  NodeStatusRow,
  OperationRow,
  PartitionRow,
  PauseOfOperationRow,
  SettingRow,
  TableRow,
} from './results.ts';

/**
 * What of the cluster can be read in SQL: relations of schema `tide` on every node, whose rows are what an
 * admin command answers. Columns have the names of its fields, `sqlAddress` as `sql_address`, but where SQL
 * has the word for itself.
 */

type SqlType = 'bigint' | 'boolean' | 'double precision' | 'int' | 'jsonb' | 'pg_lsn' | 'text' | 'timestamptz';

export interface RelationColumn {
  /** Of the command's row. */
  readonly key: string;
  readonly name: string;
  readonly type: SqlType;
}

export interface Relation {
  readonly command: AdminRequest;
  readonly columns: readonly RelationColumn[];
  /** What SHOW sorts by. */
  readonly order: string;
}

type Renamed = readonly [type: SqlType, name: string];

/** Every field of the command's row, in the order of the columns. */
function relation<Row>(command: AdminRequest, order: string, fields: Record<keyof Row & string, SqlType | Renamed>) {
  const columns = Object.entries<SqlType | Renamed>(fields).map(([key, field]) =>
    typeof field === 'string' ? { key, name: snakeCase(key), type: field } : { key, name: field[1], type: field[0] },
  );
  return { command, columns, order } satisfies Relation;
}

export const RELATIONS = {
  nodes: relation<NodeStatusRow>({ do: 'node-status' }, 'id', {
    id: 'int',
    address: 'text',
    sqlAddress: 'text',
    httpAddress: 'text',
    build: 'text',
    startedAt: 'timestamptz',
    updatedAt: 'timestamptz',
    locality: 'text',
    attrs: 'text',
    startMode: 'text',
    isAvailable: 'boolean',
    isLive: 'boolean',
    isManager: 'boolean',
    state: 'text',
    condition: 'text',
    replicas: 'int',
    leaders: 'int',
    isDecommissioning: 'boolean',
    isDraining: 'boolean',
    partitionsUnavailable: 'int',
    partitionsUnderReplicated: 'int',
    bytes: 'bigint',
    measuredAgeMs: 'double precision',
    diskTotalBytes: 'bigint',
    diskFreeBytes: 'bigint',
    replication: 'text',
    disk: 'text',
  }),
  tables: relation<TableRow>({ do: 'table-ls' }, 'schema, name', {
    tid: 'int',
    schema: 'text',
    name: 'text',
    state: 'text',
    distributeBy: 'text',
    partitions: 'int',
    replicas: 'int',
    rows: ['bigint', 'row_count'],
    bytes: 'bigint',
    measuredAgeMs: 'double precision',
  }),
  partitions: relation<PartitionRow>({ do: 'partition-ls' }, 'table_name, pid, role DESC, node', {
    table: ['text', 'table_name'],
    tid: 'int',
    pid: 'int',
    node: 'int',
    endpoint: 'text',
    role: 'text',
    state: 'text',
    isAlive: 'boolean',
    durability: 'text',
    why: 'text',
    epoch: 'bigint',
    offset: ['pg_lsn', 'replayed_lsn'],
    lagBytes: 'bigint',
    rows: ['bigint', 'row_count'],
    bytes: 'bigint',
    measuredAgeMs: 'double precision',
  }),
  operations: relation<OperationRow>({ do: 'op-ls', all: true }, 'id', {
    id: 'bigint',
    parent: 'bigint',
    kind: 'text',
    subject: 'text',
    status: 'text',
    step: 'text',
    percent: 'double precision',
    bytesDone: 'bigint',
    bytesTotal: 'bigint',
    bytesPerSecond: 'double precision',
    secondsLeft: 'double precision',
    waitsFor: 'jsonb',
    createdAt: 'timestamptz',
    startedAt: 'timestamptz',
    endedAt: 'timestamptz',
    error: 'jsonb',
  }),
  pauses: relation<PauseOfOperationRow>({ do: 'pause-ls' }, 'at', {
    operation: 'bigint',
    table: ['text', 'table_name'],
    pid: 'int',
    node: 'int',
    purpose: 'text',
    outcome: 'text',
    pauseMs: 'double precision',
    at: 'timestamptz',
  }),
  events: relation<EventRow>({ do: 'events', limit: 10_000 }, 'seq', {
    seq: 'bigint',
    at: 'timestamptz',
    kind: 'text',
    node: 'int',
    operation: 'bigint',
    text: 'text',
  }),
  settings: relation<SettingRow>({ do: 'setting-ls' }, 'key', {
    key: 'text',
    value: 'text',
    default: ['text', 'default_value'],
    description: 'text',
  }),
  leftovers: relation<DoctorRow>({ do: 'doctor' }, 'node, kind, name', {
    node: 'int',
    kind: 'text',
    name: 'text',
    why: 'text',
    fixed: ['boolean', 'is_fixed'],
  }),
} as const;

export type RelationName = keyof typeof RELATIONS;
export const RELATION_NAMES = Object.keys(RELATIONS) as RelationName[];

/** An error as SQL has it. */
export interface SqlError {
  readonly sqlstate: string;
  readonly message: string;
  readonly detail: string;
  readonly hint: string;
}
