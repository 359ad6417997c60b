import type { Words } from './words.ts';

/** `NODE 3`, `NODES 3, 4`, `3, 4`: up to the end. Null: something else. */
export function nodeIds(words: Words): number[] | null {
  words.take('node') || words.take('nodes');
  const ids = words.list()?.map(idOf);
  return ids === undefined || ids.includes(null) ? null : (ids as number[]);
}

/** One alone. */
export function oneId(words: Words): number | null {
  const [id, ...more] = nodeIds(words) ?? [];
  return id === undefined || more.length > 0 ? null : id;
}

function idOf(text: string): number | null {
  return /^[1-9]\d{0,8}$/.test(text) ? Number(text) : null;
}
