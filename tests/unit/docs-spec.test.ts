import { expect, test } from 'vitest';
import { DOCUMENTS, filesIn, isThere, prose, text } from './support/documents.ts';

/** That the documents which say how things work speak of files, names and tests that there are. */

const PAGES = DOCUMENTS.filter((file) => file.startsWith('docs/spec/'));

test('files that are named are there', () => {
  const named = ['ARCHITECTURE.md', 'docs/testing.md', ...PAGES].flatMap((file) =>
    [...prose(file).matchAll(/`((?:src|tests|docs|scripts)\/[^`\s]+)`/g)].map(([, path = '']) => ({ file, path })),
  );
  expect(named.length).toBeGreaterThan(300);
  expect(named.filter(({ path }) => !isThere(path))).toEqual([]);
});

test('names stand in the files that they are said to be in', () => {
  // `NAME` (`FILE`), `NAME` in `FILE`.
  const said = ['ARCHITECTURE.md', ...PAGES].flatMap((file) =>
    [
      ...prose(file)
        .replaceAll(/\s+/g, ' ')
        .matchAll(/`([^`\s/]+)`(?: \(| in )`(src\/[^`\s]+\.ts)`/g),
    ].map(([, name = '', path = '']) => ({ file, name, path })),
  );
  expect(said.length).toBeGreaterThan(10);
  expect(said.filter(({ name, path }) => !isThere(path) || !hasName(path, name))).toEqual([]);
});

/** As a word of its own. */
function hasName(path: string, name: string): boolean {
  const before = /^\w/.test(name) ? '(?<![\\w#])' : '';
  const after = /\w$/.test(name) ? '(?!\\w)' : '';
  return new RegExp(before + name.replaceAll(/[^\w#]/g, '\\$&') + after).test(text(path));
}

interface Invariant {
  page: string;
  letter: string;
  number: number;
  enforcedBy: string;
  heldBy: string;
}

const INVARIANTS = PAGES.flatMap((page) => itemsOf(page).map((item) => invariantOf(page, item)));
const nameOf = ({ letter, number }: Invariant) => `${letter}${number}`;

/** An invariant is an item of a list, with the two items below it. */
function itemsOf(page: string): string[] {
  const [, ...parts] = prose(page).split(/^- \*\*(?=[A-Z]\d+\.\*\*)/m);
  return parts.map((part) =>
    part
      .replace(/\n\n[\s\S]*/, '')
      .replaceAll(/\s+/g, ' ')
      .trim(),
  );
}

function invariantOf(page: string, item: string): Invariant {
  const found =
    /^(?<letter>[A-Z])(?<number>\d+)\.\*\* .*? - Enforced by: (?<enforcedBy>.*?) - Held by: (?<heldBy>.*)$/.exec(
      item,
    )?.groups;
  if (!found) throw new Error(`${page}: ${item.slice(0, 60)} does not say what enforces it, and what holds it`);
  const { letter = '', number, enforcedBy = '', heldBy = '' } = found;
  return { page, letter, number: Number(number), enforcedBy, heldBy };
}

/** A file, and what is to be found in it: `FILE` (`name`, "words"). */
const PLACE = /`([^`\s]+)`(?: \(((?:(?:`[^`]+`|"[^"]+")(?:, )?)+)\))?/g;

/** Of places, one after the other, all in `folder`: what is not there. */
function missing(folder: string, places: string): string[] {
  const rest = places.replaceAll(PLACE, '').replaceAll(', ', '');
  if (rest !== '') return [`cannot be read: ${rest}`];
  return [...places.matchAll(PLACE)].flatMap(([, path = '', names = '']) => {
    if (!path.startsWith(folder) || !isThere(path)) return [`${path} is no file in ${folder}`];
    const words = [...names.matchAll(/`([^`]+)`|"([^"]+)"/g)];
    return words.flatMap(([, name = '', title = '']) =>
      (name ? hasName(path, name) : text(path).includes(title)) ? [] : [`${path} has no ${name || title}`],
    );
  });
}

test.each(PAGES.filter((page) => !page.endsWith('README.md')))(
  '%s: code and tests of its invariants are there',
  (page) => {
    const own = INVARIANTS.filter((i) => i.page === page);
    expect(own.length).toBeGreaterThan(0);
    const wrong = own.flatMap((i) =>
      [...missing('src/', i.enforcedBy), ...missing('tests/', i.heldBy)].map((why) => `${nameOf(i)}: ${why}`),
    );
    expect(wrong).toEqual([]);
  },
);

test('every page has a letter of its own, and its numbers rise', () => {
  const letters = PAGES.flatMap((page) => [...new Set(INVARIANTS.filter((i) => i.page === page).map((i) => i.letter))]);
  expect(letters.length).toBe(PAGES.length - 1);
  expect(letters).toEqual([...new Set(letters)]);
  const late = INVARIANTS.filter((i, at) => {
    const before = INVARIANTS[at - 1];
    return before?.letter === i.letter && before.number >= i.number;
  });
  expect(late.map(nameOf)).toEqual([]);
});

test('comments cite pages and invariants that there are', () => {
  const cited = ['src', 'tests'].flatMap(filesIn).flatMap((file) => {
    const plain = text(file).replaceAll(/\n\s*(?:\*|\/\/) /g, ' ');
    return [...plain.matchAll(/docs\/spec\/[\w-]+\.md(?:, [A-Z]\d+\b)?/g)].map(([citation]) => ({ file, citation }));
  });
  const known = new Set([...PAGES, ...INVARIANTS.map((i) => `${i.page}, ${nameOf(i)}`)]);
  expect(cited.filter(({ citation }) => !known.has(citation))).toEqual([]);
});
