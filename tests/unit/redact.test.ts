import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { shownSql } from '../../src/core/redact.ts';

describe('a statement that others see', () => {
  test.each([
    ["UPDATE acct SET owner = 'Ann''s' WHERE id = 42", 'UPDATE acct SET owner = ? WHERE id = ?'],
    ["SELECT E'it\\'s secret', U&'d\\0061t', x'ff', B'01', N'n'", 'SELECT ?, ?, ?, ?, ?'],
    ['DO $f$ secret $x$ 1 $f$; SELECT $$ secret $$', 'DO ?; SELECT ?'],
    [
      'SELECT $1, a1, "My ""Table""", t.c2 FROM t -- secret\nWHERE x=1.5e-10',
      'SELECT $1, a1, "My ""Table""", t.c2 FROM t WHERE x=?',
    ],
    ['/* secret */ SELECT 0x1F, .5, 1_000', 'SELECT ?, ?, ?'],
    ["INSERT INTO t VALUES (1, 'cut off by the ser", 'INSERT INTO t VALUES (?, ?'],
    ["INSERT INTO t VALUES (E'cut\\", 'INSERT INTO t VALUES (?'],
    ['SELECT $tag$ cut off', 'SELECT ?'],
    ["/* a /* don't */ it's secret */ SELECT 'secret'", 'SELECT ?'],
    ['FETCH 100 FROM c1', 'FETCH ? FROM c1'],
  ])('%s', (sql, shown) => {
    expect(shownSql(sql, 'hidden')).toBe(shown);
  });

  test('says no literal, however it is written and wherever the statement ends', () => {
    const secret = 'hunter2secret';
    const around = fc.string({ unit: fc.constantFrom("'", '\\', '"', '$', '-', '/', '*', ' ', 'x', '\n') });
    const quotes = [
      (text: string) => `'${text.replaceAll("'", "''")}'`,
      (text: string) => `E'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`,
      (text: string) => `$q$${text.replaceAll('$', '')}$q$`,
    ];
    const literal = fc.tuple(fc.constantFrom(...quotes), around, around).map(([quote, a, b]) => quote(a + secret + b));
    fc.assert(
      fc.property(fc.array(literal, { minLength: 1, maxLength: 4 }), fc.nat(200), (literals, length) => {
        const sql = `SELECT a FROM t WHERE b IN (${literals.join(', ')}) AND c = ${literals[0]}`;
        expect(shownSql(sql, 'hidden')).toBe(
          `SELECT a FROM t WHERE b IN (${literals.map(() => '?').join(', ')}) AND c = ?`,
        );
        expect(shownSql(sql.slice(0, length), 'hidden')).not.toContain(secret);
      }),
      { numRuns: 2_000 },
    );
  });

  test.each(['hidden', 'shown'] as const)('is one short line, its literals %s', (literals) => {
    const shown = shownSql(`SELECT\n  ${'a,\t'.repeat(1_000)}b`, literals);
    expect(shown).toHaveLength(160);
    expect(shown).not.toMatch(/[\n\t]/);
  });

  test('keeps its literals where the setting allows it', () => {
    expect(shownSql("UPDATE acct SET owner = 'Ann'\n WHERE id = 42", 'shown')).toBe(
      "UPDATE acct SET owner = 'Ann' WHERE id = 42",
    );
  });
});
