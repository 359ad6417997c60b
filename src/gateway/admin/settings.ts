import { type Reading, wrong } from './reading.ts';
import type { Words } from './words.ts';

const FORMS = "SET CLUSTER SETTING name = 'value', or = DEFAULT; SHOW CLUSTER SETTINGS lists all";

/** `SET CLUSTER SETTING move.max_pause = 100`; null: it is PostgreSQL's. */
export function readSet(words: Words): Reading | null {
  if (!words.take('cluster', 'setting')) return null;
  const key = words.name();
  if (key === null || !(words.take('=') || words.take('to')))
    return wrong('which setting of the cluster, to what?', FORMS);
  const isNegative = words.take('-');
  const value = words.value();
  if (value === null || !words.isAtEnd) return wrong(`setting ${key} of the cluster to what?`, FORMS);
  if (value.kind === 'word' && !isNegative && value.text.toLowerCase() === 'default') return reset(key);
  return set(key, isNegative ? `-${value.text}` : value.text);
}

/** `RESET CLUSTER SETTING move.max_pause`; null: it is PostgreSQL's. */
export function readReset(words: Words): Reading | null {
  if (!words.take('cluster', 'setting')) return null;
  const key = words.name();
  return key === null || !words.isAtEnd ? wrong('which setting of the cluster?', FORMS) : reset(key);
}

function set(key: string, value: string): Reading {
  return { kind: 'do', work: { command: { do: 'setting-set', key, value } }, gives: 'nothing' };
}

function reset(key: string): Reading {
  return { kind: 'do', work: { reset: key }, gives: 'nothing' };
}
