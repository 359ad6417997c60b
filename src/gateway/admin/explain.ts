import type { AdminRequest } from '../../api/commands.ts';
import { type Reading, wrong } from './reading.ts';
import { nodeIds, oneId } from './targets.ts';
import type { Words } from './words.ts';

const FORMS = [
  'EXPLAIN SCALE OUT',
  'EXPLAIN SCALE OUT BY 2',
  'EXPLAIN SCALE IN NODE 3, 4',
  'EXPLAIN DECOMMISSION NODE 3, 4',
  'EXPLAIN REBALANCE',
].join('; ');

/** `EXPLAIN SCALE OUT`: what a change would move, and why; null: it is PostgreSQL's. */
export function readExplain(words: Words): Reading | null {
  if (words.take('scale')) return planned(scale(words));
  if (words.take('decommission')) return planned(removal(words));
  if (words.take('rebalance')) return planned(words.isAtEnd ? { do: 'plan', rebalance: true } : null);
  return null;
}

function planned(command: AdminRequest | null): Reading {
  if (command === null) return wrong('EXPLAIN is not followed by a change of the cluster', FORMS);
  return { kind: 'do', work: { command }, gives: 'plan' };
}

function scale(words: Words): AdminRequest | null {
  if (words.take('in')) return removal(words);
  if (!words.take('out')) return null;
  if (!words.take('by')) return words.isAtEnd ? { do: 'plan', rebalance: true } : null;
  const add = oneId(words);
  return add === null ? null : { do: 'plan', add };
}

function removal(words: Words): AdminRequest | null {
  const remove = nodeIds(words);
  return remove && { do: 'plan', remove };
}
