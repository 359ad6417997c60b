import { describe, expect, it } from 'vitest';
import { SCHEMAS } from '../../../../src/catalog/names.ts';
import type { HingeTarget } from '../../../../src/operations/ports.ts';
import { dropForeignServer, ensureForeignServer, readHinges, swingHinge } from '../../../../src/postgres/sql/hinge.ts';
import { ScriptedSql, sqlFailure } from '../support/scripted-sql.ts';

const SWING = { tid: 4, pid: 0, from: { kind: 'local' }, to: { kind: 'forward', epoch: 7 }, budgetMs: 100 } as const;
const BEGIN =
  "BEGIN; SET LOCAL lock_timeout = 50; SET LOCAL deadlock_timeout = '5ms'; SET LOCAL transaction_timeout = 100";
const LOCK = 'LOCK TABLE "tide_hinge"."t4_p0" IN ACCESS EXCLUSIVE MODE';

describe('a swing', () => {
  it('is one transaction: what is prepared, the lock, what is asked under it, the exchange', async () => {
    const sql = new ScriptedSql();
    const whileLocked = async () => sql.asked.push('(asked)') > 0;
    const attempt = await swingHinge(sql, SWING, whileLocked, ['SELECT 2'], ['SELECT 1']);
    expect(attempt.outcome).toBe('done');
    expect(sql.asked).toEqual([
      BEGIN,
      'SELECT 1',
      LOCK,
      '(asked)',
      'ALTER TABLE "tide_hinge"."t4_p0" DETACH PARTITION "tide_data"."t4_p0"; ' +
        'ALTER TABLE "tide_hinge"."t4_p0" ATTACH PARTITION "tide_remote"."t4_p0_fwd_e7" ' +
        'FOR VALUES WITH (MODULUS 1, REMAINDER 0); SELECT 2; COMMIT',
    ]);
  });

  it('locks the rows too that it leads to', async () => {
    const sql = new ScriptedSql();
    await swingHinge(sql, { ...SWING, from: SWING.to, to: SWING.from }, async () => true);
    expect(sql.asked).toContain('LOCK TABLE "tide_hinge"."t4_p0", "tide_data"."t4_p0" IN ACCESS EXCLUSIVE MODE');
  });

  it.each([
    [1_000, 800],
    [100, 50],
    [12, 10],
  ])('of %i ms waits for its lock for %i ms', async (budgetMs, lockMs) => {
    const sql = new ScriptedSql();
    await swingHinge(sql, { ...SWING, budgetMs }, async () => true);
    expect(sql.asked[0]).toContain(`lock_timeout = ${lockMs};`);
  });

  it('backs off where its followers are behind', async () => {
    const sql = new ScriptedSql();
    expect(await swingHinge(sql, SWING, async () => false)).toMatchObject({ outcome: 'backed-off', why: 'lag' });
    expect(sql.asked).toEqual([BEGIN, LOCK, 'ROLLBACK']);
  });

  it.each([
    ['55P03', 'lock'],
    ['40P01', 'lock'],
    ['57014', 'lock'],
    ['25P04', 'timeout'],
  ])('backs off at %s: %s', async (sqlstate, why) => {
    const sql = new ScriptedSql({ 'LOCK TABLE': sqlFailure(sqlstate) });
    expect(await swingHinge(sql, SWING, async () => true)).toMatchObject({ outcome: 'backed-off', why });
    expect(sql.asked.at(-1)).toBe('ROLLBACK');
  });

  it('fails at anything else', async () => {
    const sql = new ScriptedSql({ 'LOCK TABLE': sqlFailure('42P01', 'relation does not exist') });
    await expect(swingHinge(sql, SWING, async () => true)).rejects.toThrow('relation does not exist');
  });
});

it.each<HingeTarget>([{ kind: 'local' }, { kind: 'node', node: 12 }, { kind: 'forward', epoch: 7 }])(
  'a hinge that was led to %o is read so',
  async (to) => {
    const made = new ScriptedSql();
    await swingHinge(made, { ...SWING, to }, async () => true);
    const [, schema, child] = /ATTACH PARTITION "(.*?)"."(.*?)"/.exec(made.asked.join()) ?? [];
    const sql = new ScriptedSql({ 'as hinge': [{ hinge: 't4_p0', schema, child }] });
    expect(await readHinges(sql)).toEqual(new Map([['t4_p0', to]]));
    expect(schema).toBe(to.kind === 'local' ? SCHEMAS.data : SCHEMAS.remote);
  },
);

describe('the server of another node', () => {
  const address = { host: "o'brien", port: 27_257 };

  /** As PostgreSQL would keep what it was told. */
  async function told(): Promise<{ text: string; options: string[] }> {
    const sql = new ScriptedSql();
    await ensureForeignServer(sql, 1, 2, address);
    const text = sql.asked.at(-1) ?? '';
    const [clause = ''] = /OPTIONS \((.*?)\); CREATE USER MAPPING/.exec(text)?.slice(1) ?? [];
    const options = [...clause.matchAll(/(\w+) '((?:[^']|'')*)'/g)];
    return { text, options: options.map(([, name, value = '']) => `${name}=${value.replaceAll("''", "'")}`) };
  }

  it('is made with the mapping through which everybody comes as the role of other nodes', async () => {
    const { text, options } = await told();
    expect(text).toMatch(/^CREATE SERVER "tide_n2" FOREIGN DATA WRAPPER postgres_fdw OPTIONS/);
    expect(text).toMatch(/FOR PUBLIC SERVER "tide_n2" OPTIONS \(user 'tide_peer', password_required 'false'\)$/);
    expect(options).toEqual(
      expect.arrayContaining(["host=o'brien", 'port=27257', 'application_name=tide n1 pid %p', 'async_capable=true']),
    );
  });

  it('is left alone where nothing has changed', async () => {
    const sql = new ScriptedSql({ srvoptions: [{ options: (await told()).options }] });
    await ensureForeignServer(sql, 1, 2, address);
    expect(sql.asked).toHaveLength(1);
  });

  it('gets what has changed, and what is new', async () => {
    const { options } = await told();
    const before = options.filter((o) => !o.startsWith('batch_size=')).map((o) => o.replace('27257', '1'));
    const sql = new ScriptedSql({ srvoptions: [{ options: before }] });
    await ensureForeignServer(sql, 1, 2, address);
    expect(sql.asked.at(-1)).toBe(`ALTER SERVER "tide_n2" OPTIONS (SET port '27257', ADD batch_size '100')`);
  });

  it('is not dropped from under a hinge', async () => {
    const sql = new ScriptedSql({ pg_foreign_table: [{ hinge: 'tide_hinge.t4_p0' }] });
    await expect(dropForeignServer(sql, 2)).rejects.toMatchObject({ code: 'SERVER_IN_USE' });
    expect(sql.asked).toHaveLength(1);
  });
});
