import { hasEnded } from './machine.ts';
import type { OperationRecord } from './operation.ts';

/**
 * An operation that another version of pgtide has begun, as this one, whose steps of the kind are `steps`,
 * goes on with it. Steps are known by name. Before the point of no return it goes on with the first step that
 * the other had not done: one that is new here is not left out. Null where it is at a step that this version
 * does not know.
 */
export function adoptSteps(record: OperationRecord, steps: readonly string[]): OperationRecord | null {
  if (hasEnded(record) || sameNames(record.steps, steps)) return record;
  if (record.status === 'queued') return { ...record, steps };
  const at = record.steps[record.step];
  const done = new Set(record.steps.slice(0, record.step));
  const isUnderWay = record.status === 'running' && !record.passedNoReturn && record.began !== at;
  const step = isUnderWay ? steps.findIndex((name) => !done.has(name)) : steps.indexOf(at ?? '');
  return step < 0 ? null : { ...record, step, steps };
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, i) => name === b[i]);
}
