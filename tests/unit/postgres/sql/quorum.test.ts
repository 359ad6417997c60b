import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NO_QUORUM } from '../../../../src/catalog/quorum.ts';
import { parseQuorum, quorumText, setQuorum } from '../../../../src/postgres/sql/quorum.ts';
import { ScriptedSql } from '../support/scripted-sql.ts';

describe('a quorum as PostgreSQL takes it', () => {
  const quorum = fc
    .uniqueArray(fc.integer({ min: 1, max: 99 }), { minLength: 1 })
    .chain((nodes) => fc.record({ count: fc.integer({ min: 1, max: nodes.length + 1 }), nodes: fc.constant(nodes) }));

  it('is written with the names of streams', () => {
    expect(quorumText(7, { count: 2, nodes: [1, 12, 3] })).toBe('ANY 2 (tide_7_1, tide_7_12, tide_7_3)');
    expect(quorumText(7, NO_QUORUM)).toBe('');
  });

  it('is read as it was written', () => {
    fc.assert(
      fc.property(quorum, (q) => {
        expect(parseQuorum(7, quorumText(7, q))).toEqual(q);
      }),
    );
    expect([parseQuorum(7, ''), parseQuorum(7, ' ')]).toEqual([NO_QUORUM, NO_QUORUM]);
  });

  it.each([
    '*',
    'tide_7_1',
    'FIRST 1 (tide_7_1)',
    'ANY 1 (tide_7_1,tide_7_2)',
    'ANY 1 (tide_8_1)',
    'ANY 1 (tide_7_1, standby)',
    'ANY 01 (tide_7_1)',
    'any 1 (tide_7_1)',
    'ANY 0 (tide_7_1)',
  ])('is not known where somebody else has set %s', (text) => {
    expect(parseQuorum(7, text)).toBeNull();
  });
});

describe('setting it', () => {
  const settings = (sql: ScriptedSql) => sql.asked.filter((text) => text.startsWith('ALTER SYSTEM'));
  const set = (text: string) => `ALTER SYSTEM SET synchronous_standby_names = '${text}'`;
  const server = (before: string) =>
    new ScriptedSql({
      'as text': [{ text: before }],
      'as taken': [{ taken: true }],
      'pg_cancel_backend(pid)': [{ ended: true }],
    });

  it('begins with one that nobody can satisfy where nobody waits yet', async () => {
    for (const before of ['', 'ANY 3 (tide_1_2, tide_1_3)']) {
      const sql = server(before);
      await setQuorum(sql, 1, { count: 1, nodes: [2, 3] });
      expect(settings(sql)).toEqual([set('ANY 3 (tide_1_2, tide_1_3)'), set('ANY 1 (tide_1_2, tide_1_3)')]);
    }
  });

  it('exchanges one that is in force, whoever has set it, and has those who wait judged anew', async () => {
    for (const before of ['ANY 1 (tide_1_4)', '*']) {
      const sql = server(before);
      await setQuorum(sql, 1, { count: 1, nodes: [2] });
      expect(settings(sql)).toEqual([set('ANY 1 (tide_1_2)')]);
      expect(sql.asked.at(-1)).toContain('insert into tide.marker');
    }
  });

  it('lets commits go on without one', async () => {
    const sql = server('ANY 1 (tide_1_2)');
    await setQuorum(sql, 1, NO_QUORUM);
    expect(settings(sql)).toEqual([set('')]);
    expect(sql.asked.join()).not.toContain('tide.marker');
  });
});
