import { RELATIONS, type RelationName } from '../../api/relations.ts';
import { quote, type Reading, wrong } from './reading.ts';
import type { Words } from './words.ts';

/**
 * `SHOW NODES`, `SHOW PARTITIONS FROM acct`, `SHOW CLUSTER SETTING move.max_pause`; null: it is PostgreSQL's.
 */
export function readShow(words: Words): Reading | null {
  if (words.take('cluster', 'setting')) return showSetting(words);
  if (words.take('cluster', 'settings') || words.take('all', 'cluster', 'settings')) return whole('settings', words);
  if (words.take('routes'))
    return words.isAtEnd ? look(['partitions'], 'SELECT * FROM tide.routes ORDER BY table_name, pid') : null;
  if (words.take('partitions', 'from')) return partitionsOf(words);
  const { next } = words;
  const name = next?.kind === 'word' ? next.text.toLowerCase() : '';
  if (!Object.hasOwn(RELATIONS, name)) return null;
  words.value();
  return whole(name as RelationName, words);
}

function whole(name: RelationName, words: Words): Reading | null {
  return words.isAtEnd ? look([name], `SELECT * FROM tide.${name} ORDER BY ${RELATIONS[name].order}`) : null;
}

function partitionsOf(words: Words): Reading {
  words.take('table');
  const table = words.name();
  if (table === null || !words.isAtEnd) return wrong('SHOW PARTITIONS FROM what?', 'SHOW PARTITIONS FROM table_name');
  const own = quote(table.startsWith('public.') ? table.slice('public.'.length) : table);
  return look(
    ['partitions'],
    `SELECT p.* FROM ${known('table', own, 'tide.partitions', 'table_name')} LEFT JOIN tide.partitions p ON p.table_name = k ORDER BY ${RELATIONS.partitions.order}`,
  );
}

function showSetting(words: Words): Reading {
  const key = words.name();
  if (key === null || !words.isAtEnd)
    return wrong('which setting of the cluster?', 'SHOW CLUSTER SETTING name; SHOW CLUSTER SETTINGS lists all');
  const column = `"${key.replaceAll('"', '""')}"`;
  return look(
    ['settings'],
    `SELECT s.value AS ${column} FROM ${known('setting', quote(key), 'tide.settings', 'key')} LEFT JOIN tide.settings s ON s.key = k`,
  );
}

/** Gives the name, where a relation has it, and else an error that says what there is none of. */
function known(what: string, name: string, relation: string, column: string): string {
  return `tide.known('${what}', ${name}, EXISTS (SELECT FROM ${relation} WHERE ${column} = ${name})) k`;
}

const look = (relations: readonly RelationName[], text: string): Reading => ({ kind: 'look', relations, text });
