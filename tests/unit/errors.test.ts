import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { apiErrors } from '../../src/core/errors/api.ts';
import { clusterErrors } from '../../src/core/errors/cluster.ts';
import { nodeErrors } from '../../src/core/errors/node.ts';
import { operationErrors } from '../../src/core/errors/operation.ts';
import { settingErrors } from '../../src/core/errors/setting.ts';
import { tableErrors } from '../../src/core/errors/table.ts';
import { CATALOGUE, type ErrorCode, listOf, TideError, tideError } from '../../src/core/errors.ts';
import { EXAMPLES } from './errors-examples.ts';

/**
 * docs/errors.md is made of the catalogue and the examples beside this file.
 * `REWRITE=1 npx vitest run --project unit tests/unit/errors.test.ts` writes it.
 */
const FILE = new URL('../../docs/errors.md', import.meta.url);

const SECTIONS: [string, object][] = [
  ['Calling', apiErrors],
  ['Rules of the cluster', clusterErrors],
  ['Starting and running a node', nodeErrors],
  ['Operations', operationErrors],
  ['Settings', settingErrors],
  ['Tables', tableErrors],
];

const HEAD = `# Errors

Every error that pgtide shows has a stable code, an SQLSTATE (PostgreSQL manual, appendix A; class \`TD\` is
pgtide's own), a sentence that names what was wrong, and a next step. Programs look at the code:
\`--format=json\` and the admin API carry \`{code, message, hint, retry, sqlstate, details}\`. A sentence names
the first five of what it is about, and \`details\` all (\`partitions\`, \`tables\`, \`replicas\`); where several
reasons speak against something, the error is the first one's, and \`details.reasons\` has the others, whole.
The values in the sentences below are examples.

| when to try again | meaning |
|---|---|
| never | the same call fails again: change it |
| later | a passing fault: the same call may work in a moment |
| when the cluster changes | it takes another node, more room, the end of an operation, … |
`;

const error = (code: ErrorCode) => tideError(code, EXAMPLES[code] as never);
const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll(/\s*\n\s*/g, ' ');

function row(code: ErrorCode): string {
  const { sqlstate, retry, message, hint } = error(code);
  const when = retry.replaceAll('-', ' ').replace('when cluster', 'when the cluster');
  return `| \`${code}\` | ${sqlstate} | ${when} | ${cell(message)} | ${cell(hint)} |`;
}

function document(): string {
  const sections = SECTIONS.map(([title, entries]) => {
    const rows = Object.keys(entries).map((code) => row(code as ErrorCode));
    return [
      `\n## ${title}\n`,
      '| code | SQLSTATE | try again | what it says | what to do |',
      '|---|---|---|---|---|',
      ...rows,
    ];
  });
  return `${HEAD}${sections.flat().join('\n')}\n`;
}

test('docs/errors.md is up to date (REWRITE=1 writes it)', () => {
  if (process.env.REWRITE) writeFileSync(FILE, document());
  expect(readFileSync(FILE, 'utf8')).toBe(document());
});

const CODES = Object.keys(CATALOGUE) as ErrorCode[];

test('every code is in one section only', () => {
  expect(SECTIONS.flatMap(([, entries]) => Object.keys(entries)).sort()).toEqual([...CODES].sort());
});

test('every code is said by somebody', () => {
  const src = new URL('../../src/', import.meta.url);
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const code = files
    .filter((file) => !file.startsWith('core/errors/'))
    .map((file) => readFileSync(new URL(file, src), 'utf8'))
    .join('');
  expect(CODES.filter((each) => !code.includes(`'${each}'`))).toEqual([]);
});

test.each(CODES)('%s says what was wrong and what to do next', (code) => {
  const { message, hint, sqlstate } = error(code);
  for (const text of [message, hint]) {
    expect(text).not.toMatch(/undefined|NaN|\[object|\$\{/);
    expect(text.trim().length).toBeGreaterThan(3);
    expect(text).not.toMatch(/[.!]$/);
  }
  expect(hint).not.toBe(message);
  expect(sqlstate).toMatch(/^[0-9A-Z]{5}$/);
});

const isList = (value: unknown): value is unknown[] => Array.isArray(value);
const LISTING = CODES.filter((code) => Object.values(EXAMPLES[code]).some(isList));

test.each(LISTING)('%s is short, however much there is to name, and has all of it in its details', (code) => {
  const details = Object.fromEntries(
    Object.entries(EXAMPLES[code]).map(([key, value]) => [
      key,
      // What the example names, again and again.
      isList(value) ? Array.from({ length: 300 }, (_, i) => value[i % value.length]) : value,
    ]),
  );
  if (code === 'LOCAL_TABLES') details.count = 300;
  if (code === 'LAST_COPY') details.accept = 'acct/3,'.repeat(300);
  const long = tideError(code, details as never);
  expect(long.message.length).toBeLessThan(600);
  expect(long.message).toContain('more');
  expect(long.message).toMatch(/300/);
  expect(long.hint.length).toBeLessThan(300);
  expect(listOf(long)).toHaveLength(300);
  expect(listOf(error(code)), 'a sentence that says all').toEqual([]);
});

test('what another version of pgtide has sent is shown as far as it is understood', () => {
  const old = new TideError({ ...error('LAST_COPY').toBody(), details: { node: 3, partitions: 'acct 1, acct 2' } });
  expect(listOf(old)).toEqual([]);
  const unknown = new TideError({ ...old.toBody(), code: 'OF_TOMORROW' as ErrorCode });
  expect(listOf(unknown)).toEqual([]);
});

test('an error keeps everything on its way over the wire', () => {
  const sent = error('NO_DISK_ROOM');
  const received = new TideError(JSON.parse(JSON.stringify(sent.toBody())));
  expect(received.toBody()).toEqual(sent.toBody());
  expect(received).toBeInstanceOf(Error);
});
