import fc from 'fast-check';
import { parseSync } from 'libpg-query';
import { beforeAll, describe, expect, it, test } from 'vitest';
import type { TopologyTable } from '../../../src/routing/topology.ts';
import { loadParser } from '../../../src/sql/parser.ts';
import { type PointStatement, pointStatement } from '../../../src/sql/point.ts';
import { REFUSED, ROUTED } from './statements.ts';
import { findTable, TABLES } from './tables.ts';

const HINGE = 'tide_hinge.t4_p0';

beforeAll(loadParser);

function routed(text: string, find = findTable): PointStatement {
  const read = pointStatement(text, find);
  if ('because' in read) throw new Error(`${text}: ${read.because}`);
  return read;
}

describe('statements', () => {
  it.each(ROUTED)('%s', (text, becomes) => {
    const { kind, key } = routed(text);
    expect(`${kind} ${'parameter' in key ? `$${key.parameter}` : `'${key.literal}'`}`).toBe(becomes);
    expect(shape(routed(text).on(HINGE))).toEqual(renamed(shape(text)));
  });

  it.each(REFUSED)('%s: refused', (text, because) => {
    expect(pointStatement(text, findTable)).toEqual({ because });
  });
});

/** The parse tree without places. */
function shape(text: string): unknown {
  return JSON.parse(JSON.stringify(parseSync(text).stmts?.[0]?.stmt ?? null), (field, value) =>
    /^(location|rexpr_list_(start|end))$/.test(field) ? undefined : value,
  );
}

/** With the hinge for the table, called as the table was. */
function renamed(tree: unknown): unknown {
  return JSON.parse(JSON.stringify(tree), (_, value) =>
    typeof value?.relname === 'string'
      ? { alias: { aliasname: value.relname }, ...value, schemaname: 'tide_hinge', relname: 't4_p0' }
      : value,
  );
}

test('a statement says of which table it is, and what type the key has', () => {
  const { tid, keyType } = routed('SELECT * FROM person WHERE email = $1');
  expect([tid, keyType]).toEqual([5, 'text']);
});

test('a table is called in the rest of the statement as it was', () => {
  expect(routed('SELECT acct.id FROM public.acct WHERE id = 1').on(HINGE)).toBe(
    `SELECT acct.id FROM ${HINGE} AS "acct" WHERE id = 1`,
  );
  expect(routed('SELECT a.id FROM public.acct a WHERE id = 1').on(HINGE)).toBe(
    `SELECT a.id FROM ${HINGE} a WHERE id = 1`,
  );
});

test('names that stand against quotes stay apart from them', () => {
  expect(routed('SELECT*FROM"acct"a WHERE id=1').on(HINGE)).toBe(`SELECT*FROM ${HINGE} a WHERE id=1`);
  expect(routed('SELECT*FROM acct"a"WHERE id=1').on('"x"."y"')).toBe('SELECT*FROM "x"."y" "a"WHERE id=1');
});

test('a position in the rewritten text is led back to the client’s, in characters', () => {
  const text = `SELECT '😀é', id FROM "public"."acct" WHERE id = 1 AND "Größe" = 'é' AND name = 2`;
  const statement = routed(text);
  const there = [...statement.on(HINGE)];
  const here = [...text];
  const startsAt = here.indexOf('"') + 1;
  for (let position = 1; position <= there.length; position++) {
    const led = statement.positionInOriginal(position, HINGE);
    if (led === startsAt) continue;
    expect(here[led - 1]).toBe(there[position - 1]);
  }
  expect(statement.positionInOriginal(there.length, HINGE)).toBe(here.length);
  expect(statement.positionInOriginal([..."SELECT '😀é', id FROM  tide"].length, HINGE)).toBe(startsAt);
});

const blanks = fc
  .array(fc.constantFrom(' ', '\n', '\t', '/* a */', '/* a /* "b" */ . */', '-- c "d\n', '/**/'), { maxLength: 3 })
  .map((all) => all.join(''));
/** A name, and how it may be written. */
const names = fc.oneof(
  fc
    .stringMatching(/^[a-z_][a-z0-9_]{0,8}_q$/)
    .chain((name) => fc.tuple(fc.constant(name), fc.constantFrom(name, name.toUpperCase(), `"${name}"`))),
  fc
    .stringMatching(/^[A-Za-zä€😀" .*/-]{1,10}$/u)
    .map((name) => [name, `"${name.replaceAll('"', '""')}"`] as [string, string]),
);
const frames: readonly ((name: string, alias: string) => string)[] = [
  (name, alias) => `SELECT "é", 'é' FROM${name}${alias} WHERE id = 5`,
  (name, alias) => `UPDATE${name}${alias} SET "é" = 1 WHERE 5 = id RETURNING *`,
  (name, alias) => `DELETE FROM${name}${alias} WHERE id = 5`,
  (name, alias) => `INSERT INTO${name}${alias} (id) VALUES (5)`,
];

/** Where it can stand: two quotes would be one inside of a name, and INSERT wants the AS. */
function aliasBehind(written: string, frame: number, alias: string): string {
  const apart = written.endsWith('"') && alias.startsWith('"') ? ` ${alias}` : alias;
  return frame !== 3 || apart === '' || apart.startsWith(' AS ') ? apart : ` AS ${apart}`;
}

test('whatever a table is called and however that is written, only the table is another', () => {
  const aliases = fc.constantFrom('', ' AS "A b"', '"a"', ' a', ' AS a');
  fc.assert(
    fc.property(
      names,
      fc.option(names),
      blanks,
      blanks,
      blanks,
      fc.nat(3),
      aliases,
      (table, schema, a, b, c, frame, alias) => {
        const found = {
          ...(TABLES[0] as TopologyTable),
          columns: [
            { name: 'id', type: 'bigint', notNull: true },
            { name: 'é', type: 'text', notNull: false },
          ],
        };
        const written = schema === null ? table[1] : `${schema[1]}${b}.${c}${table[1]}`;
        const gap = a === '' && !written.startsWith('"') ? ' ' : a;
        const text = (frames[frame] as (typeof frames)[number])(`${gap}${written}`, aliasBehind(written, frame, alias));
        const asked: unknown[] = [];
        const find = (s: string | null, n: string) => {
          asked.push(s, n);
          return found;
        };
        expect(shape(routed(text, find).on(HINGE))).toEqual(renamed(shape(text)));
        expect(asked).toEqual([schema === null ? null : schema[0], table[0]]);
      },
    ),
    { numRuns: 1500 },
  );
});

const words = [
  ...'SELECT FROM WHERE AND OR NOT INSERT INTO VALUES UPDATE SET DELETE RETURNING AS NULL IS IN LIKE ORDER BY LIMIT'.split(
    ' ',
  ),
  ...'acct id name open = ( ) , . * $1 $2 5 - \'x\' "id" :: bigint CASE WHEN THEN END OPERATOR(=) DEFAULT ; [ ] /* */ -- \n'.split(
    ' ',
  ),
];

test('whatever the text, there is an answer', () => {
  const soups = fc.array(fc.constantFrom(...words), { maxLength: 30 }).map((all) => all.join(' '));
  const cut = fc.tuple(fc.constantFrom(...ROUTED, ...REFUSED), fc.nat(80), fc.nat(80), fc.constantFrom(...words));
  const texts = fc.oneof(
    soups,
    fc.string({ unit: 'binary' }),
    cut.map(([[text], from, to, word]) => `${text.slice(0, from)} ${word} ${text.slice(to)}`),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const read = pointStatement(text, findTable);
      if ('because' in read) expect(read.because).not.toBe('');
      else expect(shape(read.on(HINGE))).toEqual(renamed(shape(text)));
    }),
    { numRuns: 2000 },
  );
});

test('what the parser would not survive does not get there', () => {
  const deep = ['+-', '1+', 'not ', '(', 'a(', '- ', 'case when ', 'a[', '1 union select '];
  for (const part of deep) {
    expect(pointStatement(`SELECT ${part.repeat(5_000)} 1 FROM acct WHERE id = 1`, findTable)).toEqual({
      because: expect.stringContaining('more than 1000 words'),
    });
    // As deep as it may be.
    pointStatement(`SELECT ${part.repeat(990 / (part.match(/\w+|[^\w\s]/g)?.length ?? 1))} 1`, findTable);
  }
  expect(pointStatement('SELECT * FROM acct WHERE id = 1\0', findTable)).toEqual({
    because: 'it has characters that are none',
  });
  expect(routed('SELECT * FROM acct WHERE id = 1').key).toEqual({ literal: '1' });
});

test('a list of many columns is no long statement', () => {
  const list = Array.from({ length: 200 }, (_, i) => `"acct"."name" AS "acct_name_${i}"`).join(', ');
  expect(routed(`SELECT ${list} FROM "acct" WHERE "acct"."id" = $1`).key).toEqual({ parameter: 1 });
});
