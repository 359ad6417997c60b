import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { OPERATION_KINDS } from '../../src/operations/registry.ts';
import { findUnused } from './support/unused.ts';

/**
 * The rules of the house that a compiler does not know (ARCHITECTURE.md, Folders). The arrows point from
 * processes down to facts.
 */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/**
 * Folder of src/ → folders and single files it may import beside its own. `type` marks what may be imported
 * as a type only.
 */
const ARROWS: Record<string, readonly string[]> = {
  core: [],
  catalog: ['core'],
  placement: ['core', 'catalog'],
  api: ['core', 'type routing/topology.ts'],
  routing: ['core', 'catalog'],
  // What statements mean; the parser enters here.
  sql: ['core', 'catalog', 'routing'],
  store: ['core', 'catalog'],
  operations: ['core', 'catalog', 'placement', 'store/meta-store.ts'],
  // The ports are whose side they serve: adapters know the shape of what they implement, and nothing else of
  // it.
  postgres: [
    'core',
    'catalog',
    'sql/parser.ts',
    'api/relations.ts',
    'type operations/ports.ts',
    'type manager/ports.ts',
  ],
  // What the bytes of PostgreSQL's protocol mean: known there only.
  gateway: ['catalog/names.ts', 'routing', 'sql', 'type api/commands.ts', 'api/relations.ts'],
  // Of the stores it knows what several processes share; which one it is, adapters.ts decides.
  node: [
    'core',
    'catalog',
    'routing',
    'api',
    'type gateway/admin/reading.ts',
    'gateway/hellos.ts',
    'gateway/messages.ts',
    'gateway/refuse.ts',
    'postgres',
    'store/meta-store.ts',
    'store/held-lease.ts',
    'store/seat-bound-store.ts',
    'store/node-leases.ts',
    'store/migration.ts',
    'root',
  ],
  // What runs with root's rights, all of it.
  root: ['core', 'node/store-names.ts', 'postgres/embedded.ts', 'postgres/shared-copy.ts'],
  manager: ['core', 'catalog', 'routing', 'placement', 'operations', 'api', 'store/meta-store.ts'],
  cli: ['core', 'api'],
  local: ['core', 'api'],
  demo: ['core', 'api', 'catalog/names.ts', 'root', 'local'],
};

/** A function of its arguments: no clock, no chance, no input or output, nothing to wait for. */
const PURE = [
  'core/',
  'catalog/',
  'placement/',
  'routing/',
  'sql/',
  'gateway/wire/',
  'operations/machine.ts',
  'operations/next.ts',
  'operations/admission.ts',
  'operations/stored.ts',
];
/**
 * They pass time and order on as an argument, which is what keeps the rest pure; the parser has to be loaded.
 */
const NOT_PURE = ['core/clock.ts', 'core/mutex.ts', 'core/rounds.ts', 'sql/parser.ts'];
const IMPURE =
  /\bDate\.now\b|\bnew Date\(\)|\bMath\.random\b|\bperformance\b|['"]node:|\basync\b|\bawait\b|\bPromise\b/;

/**
 * The clock by which people live: it steps when it is set, and nothing may be decided by it (core/clock.ts).
 */
const STEPPING_CLOCK = /\bDate\.now\b/;

/** They stand above all folders, and so does what builds the adapters. */
const PROGRAM = ['src/main.ts', 'src/tide.ts'];

const COMMENT_COLUMNS_MAX = 110;
const FUNCTION_LINES_MAX = 70;
const PUBLIC_MEMBERS_MAX = 15;
const FILE_LINES_MAX = 500;
/** Of src/. */
const SOURCE_LINES_MAX = 450;

/** Started as processes of their own, by path; and the store that tests and simulations stand on. */
const ENTRIES = [
  ...PROGRAM,
  'src/node/watchdog.ts',
  'src/gateway/worker.ts',
  'src/local/reaper.ts',
  'src/store/memory-store.ts',
];

/** With all that they import. */
const SHARED = ['src/api/client.ts', 'src/api/commands.ts', 'src/api/results.ts'];

interface Import {
  from: string;
  to: string;
  typeOnly: boolean;
  /** `*`: all of it. */
  names: string[];
}

const files = (folder: string, ending: RegExp): string[] =>
  existsSync(join(ROOT, folder))
    ? readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => ending.test(name))
        .map((name) => join(folder, name))
        .sort()
    : [];

const sources = files('src', /(?<!\.d)\.ts$/);
const others = [...files('tests', /\.ts$/), ...files('bench', /\.ts$/), ...files('scripts', /\.mjs$/)];
const texts = new Map([...sources, ...others].map((file) => [file, readFileSync(join(ROOT, file), 'utf8')]));
const textOf = (file: string) => texts.get(file) ?? '';
const codeOf = (file: string) => textOf(file).replaceAll(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, '');
const imports = [...texts.keys()].flatMap(importsOf);
const within = (file: string) => relative('src', file);

function importsOf(from: string): Import[] {
  const statement = /^(?:import|export)\s+(type\s+)?(?:([\w*][^'";]*?|\{[^}]*\})\s+from\s+)?'(\.[^']+)'/gm;
  const code = codeOf(from);
  const found = [...code.matchAll(statement)].map(([, type, clause = '', path = '']): Import => {
    const listed = /\{([^}]*)\}/.exec(clause)?.[1] ?? '';
    const names = listed.split(',').map((name) => name.trim());
    const typeOnly = type !== undefined || (names.length > 0 && names.every((n) => n === '' || n.startsWith('type ')));
    const plain = names.map((name) => name.replace(/^type /, '').replace(/ as .*/, '')).filter((name) => name !== '');
    return { from, to: join(dirname(from), path), typeOnly, names: clause.includes('*') ? ['*'] : plain };
  });
  const dynamic = [...code.matchAll(/import\(\s*'(\.[^']+)'\s*\)/g)].map(
    ([, path = '']): Import => ({ from, to: join(dirname(from), path), typeOnly: false, names: ['*'] }),
  );
  return [...found, ...dynamic];
}

test('imports follow the arrows', () => {
  const wrong = imports
    .filter((i) => i.from.startsWith('src/') && ![...PROGRAM, 'src/adapters.ts'].includes(i.from))
    .filter((i) => !allowed(within(i.from).split('/')[0] ?? '', within(i.to), i.typeOnly))
    .map((i) => `${i.from} imports ${i.to}`);
  expect(wrong).toEqual([]);
});

function allowed(folder: string, target: string, typeOnly: boolean): boolean {
  if (target.startsWith(`${folder}/`)) return true;
  return (ARROWS[folder] ?? []).some((arrow) => {
    const path = arrow.replace(/^type /, '');
    if (arrow !== path && !typeOnly) return false;
    return target === path || target.startsWith(`${path}/`) || target === `${path}.ts`;
  });
}

test('nothing imports itself by way of others, types included', () => {
  expect(circles()).toEqual([]);
});

/**
 * What is left when files that import none of the rest, or that none of the rest imports, go again and again.
 */
function circles(): string[] {
  let rest = imports.filter((i) => i.from.startsWith('src/'));
  for (let before = 0; before !== rest.length; ) {
    before = rest.length;
    const importing = new Set(rest.map((i) => i.from));
    const imported = new Set(rest.map((i) => i.to));
    rest = rest.filter((i) => importing.has(i.to) && imported.has(i.from));
  }
  return rest.map((i) => `${i.from} imports ${i.to}`);
}

test('every folder has its arrows', () => {
  const folders = new Set(sources.map((file) => within(file).split('/')).flatMap(([a = '', b]) => (b ? [a] : [])));
  expect([...folders].filter((folder) => !(folder in ARROWS))).toEqual([]);
});

test('every kind of operation has a file of its own, and knows no other', () => {
  const kinds = files('src/operations/kinds', /\.ts$/);
  expect(kinds).toEqual([...OPERATION_KINDS.keys()].sort().map((kind) => `src/operations/kinds/${kind}.ts`));
  expect(imports.filter((i) => kinds.includes(i.from) && kinds.includes(i.to)).map((i) => i.from)).toEqual([]);
});

test('nothing imports the program itself', () => {
  expect(imports.filter((i) => PROGRAM.includes(i.to) && !i.from.startsWith('tests/')).map((i) => i.from)).toEqual([]);
});

test('pure folders are pure', () => {
  const impure = sources
    .filter((file) => PURE.some((p) => within(file).startsWith(p)) && !NOT_PURE.includes(within(file)))
    .flatMap((file) => {
      const found = IMPURE.exec(codeOf(file).replaceAll(/'(?!node:)[^'\n]*'|`[^`]*`/g, "''"));
      return found ? [`${file}: ${found[0]}`] : [];
    });
  expect(impure).toEqual([]);
});

test('sessions of pgtide are made in one room', () => {
  // Those of the demo, of a local cluster and of the shell are an application's.
  const own = sources.filter((file) => !/^(demo\/|local\/|cli\/sql\/|postgres\/connect\.ts$)/.test(within(file)));
  expect(own.filter((file) => /\bnew (pg\.)?(Client|Pool)\(/.test(codeOf(file)))).toEqual([]);
});

test('what PostgreSQL sends is read and written in one room', () => {
  const bytes = /\.(read|write)U?Int(8|16BE|32BE)\(/;
  expect(sources.filter((file) => !within(file).startsWith('gateway/wire/') && bytes.test(codeOf(file)))).toEqual([]);
});

test('nothing is decided by a clock that can be set', () => {
  expect(sources.filter((file) => STEPPING_CLOCK.test(codeOf(file)))).toEqual([]);
});

test(`files have at most ${FILE_LINES_MAX} lines, those of src/ ${SOURCE_LINES_MAX}`, () => {
  const most = (file: string) => (file.startsWith('src/') ? SOURCE_LINES_MAX : FILE_LINES_MAX);
  const long = [...texts.keys()].filter((file) => textOf(file).split('\n').length > most(file) + 1);
  expect(long).toEqual([]);
});

test(`comments have at most ${COMMENT_COLUMNS_MAX} columns`, () => {
  const wide = [...texts.keys()].flatMap((file) =>
    textOf(file)
      .split('\n')
      .flatMap((line, at) =>
        line.length > COMMENT_COLUMNS_MAX && /^\s*(\/\/|\/?\*)/.test(line) ? [`${file}:${at + 1}`] : [],
      ),
  );
  expect(wide).toEqual([]);
});

test(`functions have at most ${FUNCTION_LINES_MAX} lines`, () => {
  expect(sources.flatMap(longFunctions)).toEqual([]);
});

/** The formatter closes a function at the indent at which it opened, so lines are enough. */
function longFunctions(file: string): string[] {
  const lines = textOf(file).split('\n');
  return lines.flatMap((line, start) => {
    const opens =
      /(=>|\)(: [^=]+)?) \{$/.test(line) && !/^\s*(\} )?(if|else|for|while|switch|catch|do|try)\b/.test(line);
    if (!opens) return [];
    const indent = /^\s*/.exec(line)?.[0] ?? '';
    const length = lines.slice(start + 1).findIndex((l) => l.startsWith(`${indent}}`)) + 2;
    return length > FUNCTION_LINES_MAX ? [`${file}:${start + 1} has ${length} lines`] : [];
  });
}

test(`classes have at most ${PUBLIC_MEMBERS_MAX} public members`, () => {
  const all = sources.flatMap(publicMembers);
  expect(all.length).toBeGreaterThan(50);
  expect(all.filter(({ names }) => names.length > PUBLIC_MEMBERS_MAX)).toEqual([]);
});

/**
 * The formatter writes members at the indent of two, so lines are enough. A getter and its setter are one.
 */
function publicMembers(file: string): { of: string; names: string[] }[] {
  const classes = /^(?:export )?(?:default )?(?:abstract )?class (\w+)[^\n]*\{\n([\s\S]*?)^\}/gm;
  const member =
    /^ {2}(?:(?:public|static|abstract|override|declare|readonly|accessor|async|get|set) )*\*?(?!constructor\()(\w+)[?!]?(?:[(<:;]| =)/gm;
  return [...codeOf(file).matchAll(classes)].map(([, name = '', body = '']) => ({
    of: `${file}: ${name}`,
    names: [...new Set([...body.matchAll(member)].map(([, of = '']) => of))],
  }));
}

test('every file is reached from the program', () => {
  const reached = reachedFrom(ENTRIES);
  expect(sources.filter((file) => !reached.has(file))).toEqual([]);
});

test('what a browser and a package share with us needs nothing of Node', () => {
  const own = /['"]node:|\bBuffer\b|\bNodeJS\b|\bprocess\./;
  expect([...reachedFrom(SHARED)].filter((file) => own.test(codeOf(file)))).toEqual([]);
});

function reachedFrom(entries: readonly string[]): ReadonlySet<string> {
  const reached = new Set<string>();
  const visit = (file: string): void => {
    if (reached.has(file)) return;
    reached.add(file);
    for (const i of imports) if (i.from === file) visit(i.to);
  };
  for (const entry of entries) visit(entry);
  return reached;
}

test('every exported value is imported by another file or a test', () => {
  const dead = sources
    .filter((file) => !ENTRIES.includes(file))
    .flatMap((file) => {
      const used = new Set(imports.filter((i) => i.to === file && i.from !== file).flatMap((i) => i.names));
      return used.has('*') ? [] : exportsOf(file).flatMap((name) => (used.has(name) ? [] : [`${file}: ${name}`]));
    });
  expect(dead).toEqual([]);
});

function exportsOf(file: string): string[] {
  const declared = /^export (?:async )?(?:function\*?|const|class) (\w+)/gm;
  return [...codeOf(file).matchAll(declared)].map(([, name = '']) => name);
}

test('every member of a class is used, and every variant of a union is made', () => {
  expect(findUnused(ROOT)).toEqual({ members: [], variants: [] });
});

test('nothing is left to be done later', () => {
  const marks = /\b(TODO|FIXME|XXX|HACK)\b/;
  expect([...texts.keys()].filter((file) => marks.test(textOf(file)) && !file.endsWith('tidy.test.ts'))).toEqual([]);
});

test('errors that users meet come from the catalogue', () => {
  // A bare Error is for broken invariants, which core/assert.ts throws, and for what a caller turns into an
  // entry.
  const bare = sources.flatMap((file) => {
    const count = [...codeOf(file).matchAll(/\bthrow new Error\(/g)].length;
    return count > (MAY_THROW[within(file)] ?? 0) ? [`${file}: ${count}`] : [];
  });
  expect(bare).toEqual([]);
});

const MAY_THROW: Record<string, number> = {
  'core/assert.ts': 1,
  // Said with the program's place and the user (PROGRAM_UNREADABLE).
  'root/program.ts': 5,
  // Counted as a failed statement where it is caught.
  'demo/traffic.ts': 2,
};
