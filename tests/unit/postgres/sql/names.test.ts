import { parsePlPgSQL } from 'libpg-query';
import type { PoolClient } from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { foreignServerName, forwardName, publicationName, subscriptionName } from '../../../../src/catalog/names.ts';
import { BOOTSTRAP_VERSION, bootstrapDatabase } from '../../../../src/postgres/sql/bootstrap.ts';
import { announceTerm, managerName } from '../../../../src/postgres/sql/term.ts';
import { ScriptedSql } from '../support/scripted-sql.ts';

let text: string;
beforeAll(async () => {
  const sql = new ScriptedSql();
  await bootstrapDatabase(sql);
  [text = ''] = sql.texts;
});

describe('what a database gets', () => {
  it('is one transaction, marked with its version', async () => {
    expect(text).toMatch(/^begin;\nselect pg_advisory_xact_lock\(\d+\);\n/);
    expect(text).toMatch(/;\ncommit;\n$/);
    expect(text).toContain(`comment on schema tide is '${BOOTSTRAP_VERSION}'`);
  });

  it('has functions that PostgreSQL can read', async () => {
    const { plpgsql_funcs: functions } = (await parsePlPgSQL(text)) as { plpgsql_funcs: unknown[] };
    expect(functions.length).toBeGreaterThan(6);
  });
});

describe('the guard', () => {
  /** All patterns for names of objects. */
  const patterns = () => [...new Set([...text.matchAll(/object_identity ~ '([^']+)'/g)].map(([, p = '']) => p))];
  const isGuarded = (identity: string) => patterns().some((pattern) => new RegExp(pattern).test(identity));

  it.each([
    foreignServerName(12),
    publicationName(12),
    subscriptionName(1, 12),
    `${subscriptionName(1, 12)}_next`,
    `"${subscriptionName(1, 12)}_past"`,
    forwardName(4, 12, 7),
    `PUBLIC on server ${foreignServerName(12)}`,
    `tide on server ${forwardName(4, 12, 7)}`,
  ])('knows %s for ours', (identity) => {
    expect(isGuarded(identity)).toBe(true);
  });

  it.each(['tide_orders', 'tide_n1x', 'my_tide_n1', 't4_p0', 'tide_1_2_old', 'ada on server tides'])(
    'leaves %s to its owner',
    (identity) => {
      expect(isGuarded(identity)).toBe(false);
    },
  );
});

it('a manager is known by its term, as its servers read its name', async () => {
  const sent: string[] = [];
  const query = async (statement: string) => {
    sent.push(statement);
    return { rows: [{ known: false }] };
  };
  await announceTerm({ query } as unknown as PoolClient, 7);
  const announcing = sent.join('\n');
  const [, pattern = ''] = /application_name ~ '([^']+)'/.exec(announcing) ?? [];
  const [, from = ''] = /substr\(application_name, (\d+)\)/.exec(announcing) ?? [];
  const read = (name: string) =>
    new RegExp(pattern).test(name) ? Number(name.slice(Number(from) - 1) || '0') : 'no manager';
  expect([null, 0, 7, 12].map((term) => read(managerName(term)))).toEqual([0, 0, 7, 12]);
  expect(read('pgtide manager of mine')).toBe('no manager');
});
