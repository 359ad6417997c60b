import type { OperationRecord } from './operation.ts';

/**
 * A record as the meta store has it: `began` is among its data, where 0.1.0 put it. So it stays, in both
 * directions: until all nodes run this version one of 0.1.0 may manage next, and a swing of which it does not
 * know that it has begun it would undo.
 */
interface StoredRecord extends Omit<OperationRecord, 'began'> {
  readonly data: OperationRecord['data'] & { readonly began?: string };
}

export function toStored({ began, ...record }: OperationRecord): StoredRecord {
  return began === null ? record : { ...record, data: { ...record.data, began } };
}

export function fromStored(value: unknown): OperationRecord {
  const { data, ...record } = value as StoredRecord;
  const { began = null, ...rest } = data;
  return { ...record, began, data: rest };
}
