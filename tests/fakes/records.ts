import type { ClusterView, NodeId, NodeRecord, NodeState, TableRecord } from '../../src/catalog/model.ts';
import { defaultSettings } from '../../src/catalog/settings.ts';
import type { LocalData } from '../../src/core/local-data.ts';
import type { OperationRecord } from '../../src/operations/operation.ts';

/** A cluster that nothing has happened to. */
export const EMPTY_VIEW: ClusterView = {
  revision: 0,
  clusterId: 'test',
  startMode: 'start',
  nodes: new Map(),
  tables: new Map(),
  settings: defaultSettings(),
};

/** An ordinary table with rows. */
export const NOTES: LocalData = {
  database: 'tide',
  schema: 'public',
  name: 'notes',
  kind: 'table',
  rows: 3,
  estimated: false,
  bytes: 16_384,
};

export function nodeRecord(id: NodeId, state: NodeState = 'active'): NodeRecord {
  return {
    id,
    state,
    draining: false,
    address: `10.0.0.${id}:26257`,
    httpAddress: `10.0.0.${id}:8080`,
    postgresHost: `10.0.0.${id}`,
    postgresPort: 5432,
    locality: [],
    attrs: [],
    build: 'test',
    startMode: 'start',
    startedAt: '2026-01-01T00:00:00.000Z',
  };
}

/** A table whose replicas stand on the nodes named per partition, the leader's first. */
export function tableRecord(
  tid: number,
  name: string,
  replicaCount: number,
  placement: readonly NodeId[][],
): TableRecord {
  return {
    tid,
    schema: 'public',
    name,
    state: 'creating',
    distributeBy: 'id',
    partitionCount: placement.length,
    replicaCount,
    definition: {
      columns: [{ name: 'id', type: 'bigint', notNull: true, default: null }],
      primaryKey: ['id'],
      checks: [],
      indexes: [],
    },
    partitions: placement.map((nodes, pid) => ({
      tid,
      pid,
      epoch: 1,
      leader: nodes[0] ?? 0,
      replicas: [...nodes].sort((a, b) => a - b).map((node) => ({ node, state: 'ready' as const })),
    })),
  };
}

/** A running operation at the second of its five steps, before its point of no return. */
export function operationRecord(changed: Partial<OperationRecord> = {}): OperationRecord {
  const { status = 'running' } = changed;
  return {
    id: 1,
    parent: null,
    kind: 'move-replica',
    input: {},
    steps: ['a', 'b', 'c', 'd', 'e'],
    subject: 'acct 0: n1 → n2',
    status,
    step: 1,
    began: null,
    passedNoReturn: false,
    cancelRequested: false,
    data: {},
    claims: [],
    pauses: [],
    createdMs: 1_000,
    startedMs: status === 'queued' ? null : 2_000,
    endedMs: null,
    bytesDone: 0,
    bytesTotal: 0,
    error: null,
    ...changed,
  };
}
