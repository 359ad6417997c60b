import type { Settings } from '../catalog/model.ts';
import { hasEnded } from './machine.ts';
import type { OperationRecord } from './operation.ts';

/**
 * Whoever waits for an operation hears of its end, also across a change of manager: it is kept this long at
 * the least.
 */
const HEARD_MS = 120_000;

/** What of an operation tells whether it may be forgotten. */
type Ended = Pick<OperationRecord, 'id' | 'parent' | 'status' | 'endedMs'>;

/**
 * Ids of the operations that are kept no more, oldest first: more than `operations.keep_count` newer ones are
 * kept, or they ended longer ago than `operations.keep_for`. An operation stays and goes together with those
 * that it started, from which undo, resume and `op show` read, when all of them have ended. The newest of all
 * stays: the next one's id is the one after it.
 */
export function forgettable(
  records: readonly Ended[],
  settings: Pick<Settings, 'operations.keep_count' | 'operations.keep_for'>,
  nowMs: number,
): number[] {
  const newest = records.reduce((most, r) => Math.max(most, r.id), 0);
  let kept = 0;
  const gone: number[] = [];
  for (const { members, endedMs } of families(records)) {
    const isOld = nowMs - endedMs > settings['operations.keep_for'] * 1_000;
    const isMany = kept + members.length > settings['operations.keep_count'];
    const mayGo = nowMs - endedMs > HEARD_MS && !members.includes(newest);
    if (mayGo && (isOld || isMany)) gone.push(...members);
    else kept += members.length;
  }
  return gone.sort((a, b) => a - b);
}

/** Operations with all that they started, which have all ended: those that ended last come first. */
function families(records: readonly Ended[]): { members: number[]; endedMs: number }[] {
  const parents = new Map(records.map((r) => [r.id, r.parent]));
  const rootOf = (id: number): number => {
    const parent = parents.get(id) ?? null;
    return parent !== null && parents.has(parent) ? rootOf(parent) : id;
  };
  const found = new Map<number, { members: number[]; endedMs: number; isOver: boolean }>();
  for (const record of records) {
    const root = rootOf(record.id);
    const family = found.get(root) ?? { members: [], endedMs: 0, isOver: true };
    family.members.push(record.id);
    family.endedMs = Math.max(family.endedMs, record.endedMs ?? 0);
    family.isOver &&= hasEnded(record);
    found.set(root, family);
  }
  return [...found.values()].filter((f) => f.isOver).sort((a, b) => b.endedMs - a.endedMs);
}
