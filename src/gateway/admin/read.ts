import { RELATION_NAMES, RELATIONS, type RelationName } from '../../api/relations.ts';
import { readAlter } from './alter.ts';
import { readExplain } from './explain.ts';
import { type Reading, wrong } from './reading.ts';
import { readReset, readSet } from './settings.ts';
import { readShow } from './show.ts';
import { Words, wordsOf } from './words.ts';

/** What is none of them is found out quickly: every text of every client comes by here. */
const BEFORE = String.raw`^(?:\s|--[^\n]*\n|\/\*(?:[^*]|\*(?!\/))*\*\/)*`;
const FIRST = new RegExp(String.raw`${BEFORE}(show|set|reset|alter|explain)\b`, 'i');
const OWN_SCHEMA = /tide/i;
/** A relation named together with its schema; more than that is meant by some of it does no harm. */
const NAMED = new RegExp(String.raw`\btide"?\s*\.\s*"?(${[...RELATION_NAMES, 'routes'].join('|')})\b`, 'gi');

const EXPLAIN_ROUTE = new RegExp(String.raw`${BEFORE}explain\s*\(\s*route\s*(?<more>,.*?)?\)(?<statement>.*)$`, 'is');

const STATEMENTS: Readonly<Record<string, (words: Words) => Reading | null>> = {
  show: readShow,
  set: readSet,
  reset: readReset,
  alter: readAlter,
  explain: readExplain,
};

/** What a text is to the cluster; null: nothing, it is PostgreSQL's. */
export function readStatement(text: string): Reading | null {
  const [, first] = FIRST.exec(text) ?? [];
  const { more, statement } = (first === undefined ? null : EXPLAIN_ROUTE.exec(text))?.groups ?? {};
  if (more !== undefined) return wrong('EXPLAIN (ROUTE) has no other options', 'EXPLAIN (ROUTE) statement');
  if (statement !== undefined) return { kind: 'route', statement: statement.trim() };
  if (first !== undefined) {
    const words = wordsOf(text);
    const reading = words && STATEMENTS[first.toLowerCase()]?.(new Words(words.slice(1)));
    if (reading && text.includes('\ufffd'))
      return wrong('the statement is not in UTF-8', "SET client_encoding = 'UTF8'");
    if (reading) return reading;
  }
  if (!OWN_SCHEMA.test(text)) return null;
  const named = [...text.matchAll(NAMED)].map(([, name = '']) => relationOf(name.toLowerCase()));
  return named.length === 0 ? null : { kind: 'look', relations: [...new Set(named)], text };
}

function relationOf(name: string): RelationName {
  return Object.hasOwn(RELATIONS, name) ? (name as RelationName) : 'partitions';
}
