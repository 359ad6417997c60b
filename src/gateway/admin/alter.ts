import type { AdminRequest } from '../../api/commands.ts';
import { type Reading, wrong } from './reading.ts';
import { nodeIds, oneId } from './targets.ts';
import type { Words } from './words.ts';

const FORMS = [
  'SCALE OUT',
  'DECOMMISSION NODE 3, 4',
  'RECOMMISSION NODE 3, 4',
  'DRAIN NODE 3',
  'UNDRAIN NODE 3',
  'CANCEL OPERATION 17',
]
  .map((form) => `ALTER CLUSTER ${form}`)
  .join('; ');

/**
 * `ALTER CLUSTER DECOMMISSION NODE 3`, answered with the operation that it starts; null: it is PostgreSQL's.
 */
export function readAlter(words: Words): Reading | null {
  if (!words.take('cluster')) return null;
  const command = commandOf(words);
  if (command === null) return wrong('ALTER CLUSTER is not followed by what it can do', FORMS);
  return { kind: 'do', work: { command }, gives: 'operation' };
}

function commandOf(words: Words): AdminRequest | null {
  if (words.take('scale', 'out')) return words.isAtEnd ? { do: 'scale-out' } : null;
  if (words.take('decommission')) return ofNodes(words, (nodes) => ({ do: 'node-decommission', nodes }));
  if (words.take('recommission')) return ofNodes(words, (nodes) => ({ do: 'node-recommission', nodes }));
  if (words.take('drain')) return ofOne(words, (node) => ({ do: 'node-drain', node }));
  if (words.take('undrain')) return ofOne(words, (node) => ({ do: 'node-undrain', node }));
  if (words.take('cancel', 'operation')) return ofOne(words, (id) => ({ do: 'op-cancel', id }));
  return null;
}

function ofNodes(words: Words, command: (nodes: number[]) => AdminRequest): AdminRequest | null {
  const ids = nodeIds(words);
  return ids && command(ids);
}

function ofOne(words: Words, command: (id: number) => AdminRequest): AdminRequest | null {
  const id = oneId(words);
  return id === null ? null : command(id);
}
