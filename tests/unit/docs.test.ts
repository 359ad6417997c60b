import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';
import { SETTINGS, showSetting } from '../../src/catalog/settings.ts';
import { OPERATION_KINDS } from '../../src/operations/registry.ts';
import { DOCUMENTS, filesIn, isThere, prose, text } from './support/documents.ts';

/**
 * What can be asked of the documents without running anything: that links lead somewhere, that lines fit, and
 * that tables of names are whole.
 */

/** As GitHub makes them: lower case, without marks, blanks to hyphens, numbered where there are several. */
function anchorsOf(file: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of prose(file).matchAll(/^#{1,6} +(.*?) *$/gm)) {
    const plain = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const slug = plain.replaceAll(/[^\p{L}\p{N}\p{M} _-]/gu, '').replaceAll(' ', '-');
    let anchor = slug;
    for (let n = 1; anchors.has(anchor); n++) anchor = `${slug}-${n}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** What a link of a document leads to and does not find; null where it is found, or leads elsewhere. */
function missing(file: string, link: string): string | null {
  if (/^[a-z]+:/.test(link)) return null;
  const [path = '', anchor] = link.split('#');
  const target = path === '' ? file : normalize(join(dirname(file), path));
  if (!isThere(target)) return `${file}: ${link}: no such file`;
  return anchor === undefined || anchorsOf(target).has(anchor) ? null : `${file}: ${link}: no such heading`;
}

test('links in documents lead somewhere', () => {
  const links = DOCUMENTS.flatMap((file) => {
    // A link in a span of code is an example; one whose text is code is a link.
    const plain = prose(file).replaceAll(/(?<!\[)`[^`\n]+`(?!\])/g, '');
    return [...plain.matchAll(/\]\(<?([^)>\s]+)>?(?: "[^"]*")?\)/g)].map(([, link = '']) => ({ file, link }));
  });
  expect(links.length).toBeGreaterThan(50);
  expect(links.flatMap(({ file, link }) => missing(file, link) ?? [])).toEqual([]);
});

const WIDTH_MAX = 110;

test(`prose has at most ${WIDTH_MAX} columns`, () => {
  // What has no blank at which it could be broken, as a long link, may stand out.
  const isWide = (line: string) => !line.startsWith('|') && [...line].length > WIDTH_MAX && / \S.* \S/.test(line);
  const wide = DOCUMENTS.flatMap((file) =>
    prose(file)
      .split('\n')
      .flatMap((line) => (isWide(line) ? [`${file}: ${line.slice(0, 60)}`] : [])),
  );
  expect(wide).toEqual([]);
});

/** The rows of the first table of a section, as cells; names without the marks of code. */
function tableIn(file: string, section: string): string[][] {
  const [, rest = ''] = text(file).split(`\n${section}\n`);
  const rows = /(?:^\|.*\n)+/m.exec(rest.split(/^## /m)[0] ?? '')?.[0] ?? '';
  return rows
    .trimEnd()
    .split('\n')
    .slice(2)
    .map((row) => row.split('|').map((cell) => cell.trim().replaceAll('`', '')))
    .map((cells) => cells.slice(1, -1));
}

test('every setting stands in the table, with its default and what it takes', () => {
  const rows = new Map(tableIn('docs/operations.md', '## 12. Settings').map(([key = '', ...cells]) => [key, cells]));
  const keys = Object.keys(SETTINGS) as (keyof typeof SETTINGS)[];
  expect([...rows.keys()].sort()).toEqual([...keys].sort());
  for (const key of keys) {
    const { default: value, range, values = ['on', 'off'] } = SETTINGS[key];
    const takes = range ? range.map((limit) => showSetting(key, limit)).join(' to ') : values.join(', ');
    const [shown = '', taken = ''] = rows.get(key) ?? [];
    expect([shown.split(' ')[0], taken.slice(0, takes.length)], key).toEqual([showSetting(key, value), takes]);
  }
});

/** Kinds of events that are put together from a word and a state. */
const COMPOSED: Record<string, string[]> = {
  'operation-': ['done', 'failed', 'cancelled'],
  'disk-': ['ok', 'low', 'full'],
};

test('every kind of event stands in the table, and no other', () => {
  const code = ['src/manager', 'src/operations'].flatMap(filesIn).map(text).join('\n');
  const said = [...code.matchAll(/\b(?:event|events\.add)\(\s*(?:\{\s*kind: )?([^,\n]*['`][^,\n]*),/g)];
  const kinds = said.flatMap(([, expression = '']) => {
    const prefix = /`([a-z-]+)\$\{/.exec(expression)?.[1];
    if (prefix !== undefined) return (COMPOSED[prefix] ?? ['?']).map((state) => `${prefix}${state}`);
    return [...expression.matchAll(/'([^']+)'/g)].map(([, kind = '']) => kind);
  });
  const listed = tableIn('docs/operations.md', '### Events').flatMap(([names = '']) => names.split(', '));
  expect(kinds.length).toBeGreaterThan(30);
  expect(listed.toSorted()).toEqual([...new Set(kinds)].toSorted());
});

test('every kind of operation stands in the table, with its steps', () => {
  const rows = tableIn('docs/spec/journal.md', '## Kinds and steps');
  const listed = new Map(
    rows.map(([name = '', steps = '']) => [name.split(' ')[0] ?? '', steps.replace('those of ', '').split(' → ')]),
  );
  // A kind whose steps are those of others names these.
  const inFull = (step: string): string[] => listed.get(step)?.flatMap(inFull) ?? [step];
  for (const [kind, { steps }] of OPERATION_KINDS) {
    const names = steps.map(({ name, noReturn }) => (noReturn ? `**${name}**` : name));
    expect(listed.get(kind)?.flatMap(inFull), kind).toEqual(names);
  }
  expect([...listed.keys()].sort()).toEqual([...OPERATION_KINDS.keys()].sort());
});
