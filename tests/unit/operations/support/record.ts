import type { OperationRecord } from '../../../../src/operations/operation.ts';

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
