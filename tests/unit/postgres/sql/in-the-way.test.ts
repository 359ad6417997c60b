import { describe, expect, it } from 'vitest';
import { tideError } from '../../../../src/core/errors.ts';
import { isLockFailure, sqlstateOf } from '../../../../src/postgres/sql/client.ts';
import { renewPartitionChecks } from '../../../../src/postgres/sql/partition-checks.ts';
import { takeWrites } from '../../../../src/postgres/sql/refusal.ts';
import { dropReplica, readSizes } from '../../../../src/postgres/sql/replica.ts';
import { removeWal } from '../../../../src/postgres/sql/slots.ts';
import { weakenClients } from '../../../../src/postgres/sql/weaken.ts';
import { ScriptedSql, sqlFailure } from '../support/scripted-sql.ts';

/**
 * What is done where somebody else has what is wanted: nothing waits for ever, and other failures are told.
 */

const IN_USE = sqlFailure('55P03', 'canceling statement due to lock timeout');
const BROKEN = sqlFailure('XX000', 'broken');
const REF = { tid: 4, pid: 0 };

describe('a failure', () => {
  it('has its SQLSTATE, also where it ended the session', () => {
    expect(sqlstateOf(IN_USE)).toBe('55P03');
    expect(sqlstateOf(tideError('NODE_UNREACHABLE', { node: 1, why: 'x' }, IN_USE))).toBe('55P03');
    expect(sqlstateOf(tideError('NODE_UNREACHABLE', { node: 1, why: 'x' }))).toBeNull();
    expect(sqlstateOf(Object.assign(new Error('x'), { code: 'ECONNREFUSED' }))).toBeNull();
  });

  it.each([
    ['55P03', true],
    ['57014', true],
    ['40P01', true],
    ['57P01', false],
    ['42P01', false],
  ])('%s is one of a lock: %s', (sqlstate, is) => {
    expect(isLockFailure(sqlFailure(sqlstate))).toBe(is);
  });
});

describe('a refusal of writes that ends', () => {
  const DISABLE = /^SET LOCAL lock_timeout = 2000; ALTER TABLE "tide_data"."t4_p0" DISABLE TRIGGER/;
  const refused = (...triggers: object[]) => new ScriptedSql({ NOWAIT: IN_USE, tgname: triggers });

  it('is dropped where that is to be had at once', async () => {
    const sql = new ScriptedSql();
    await takeWrites(sql, REF);
    expect(sql.asked).toEqual([expect.stringMatching(/^BEGIN; LOCK TABLE .* NOWAIT; DROP TRIGGER .*; COMMIT$/)]);
  });

  it('is disabled where it is not, once', async () => {
    const sql = refused({ name: 't4_p0', on: true });
    await takeWrites(sql, REF);
    expect(sql.asked).toEqual([expect.any(String), 'ROLLBACK', expect.any(String), expect.stringMatching(DISABLE)]);
    for (const again of [refused({ name: 't4_p0', on: false }), refused()]) {
      await takeWrites(again, REF);
      expect(again.asked).toHaveLength(3);
    }
  });

  it('fails at anything else', async () => {
    await expect(takeWrites(new ScriptedSql({ NOWAIT: BROKEN }), REF)).rejects.toBe(BROKEN);
  });
});

describe('constraints of version 0.1.0', () => {
  const CONDITION = 'satisfies_hash_partition(1::oid, 2, 0, id)';
  const old = {
    name: 't4_p0',
    condition: CONDITION,
    old: ['tide_of_table', 'tide_of_hinge'],
    isAdded: false,
    isValid: false,
  };
  const found = (...tables: object[]) => ({ string_agg: tables, pg_get_userbyid: [{ superuser: 'tide' }] });
  const changes = (sql: ScriptedSql) =>
    [...sql.asked.join().matchAll(/(ADD|VALIDATE|DROP) CONSTRAINT (\w+)/g)].map(([s]) => s);
  const [ADD, VALIDATE] = ['ADD CONSTRAINT tide_partition', 'VALIDATE CONSTRAINT tide_partition'];
  const DROPS = ['DROP CONSTRAINT tide_of_table', 'DROP CONSTRAINT tide_of_hinge'];

  it.each([
    [old, [ADD, VALIDATE, ...DROPS]],
    [{ ...old, isAdded: true }, [VALIDATE, ...DROPS]],
    [{ ...old, isAdded: true, isValid: true }, DROPS],
  ])('are replaced from where that stopped (%#)', async (table, wanted) => {
    const sql = new ScriptedSql(found(table));
    expect(await renewPartitionChecks(sql)).toEqual({ renewed: 1, inUse: 0 });
    expect(changes(sql)).toEqual(wanted);
  });

  it('of a table in use are left until later, and others are not', async () => {
    const sql = new ScriptedSql({
      'ALTER TABLE "tide_data"."t4_p0"': IN_USE,
      ...found(old, { ...old, name: 't4_p1' }),
    });
    expect(await renewPartitionChecks(sql)).toEqual({ renewed: 1, inUse: 1 });
    expect(sql.asked).toContain('ROLLBACK');
    const broken = new ScriptedSql({ 'ALTER TABLE': BROKEN, ...found(old) });
    await expect(renewPartitionChecks(broken)).rejects.toBe(BROKEN);
  });
});

describe('clients who were superusers', () => {
  const server = (oid: number, isDone: boolean, sessions: object[] = [], owned: object[] = []) =>
    new ScriptedSql({
      '"isDone"': [{ oid, isDone }],
      pg_identify_object: owned,
      'OWNER TO': IN_USE,
      pg_terminate_backend: sessions,
    });
  const weaken = (sql: ScriptedSql) => weakenClients(sql, async () => 0);
  const TABLE = { type: 'table', identity: 'public.t', to: 'tide' };

  it('are so no more, or already were not', async () => {
    const done = server(16_400, true);
    expect(await weaken(done)).toBe('already');
    expect(done.asked).toHaveLength(1);
    expect(await weaken(server(16_400, false))).toBe('done');
  });

  it('give their name away when nothing is left with it', async () => {
    const clean = server(10, false);
    await weaken(clean);
    expect(clean.asked.join()).toContain('alter role tide rename to tide_bootstrap');
    const used = server(10, false, [], [TABLE]);
    expect(await weaken(used)).toBe('1 objects are in use and change their owner later');
    expect(used.asked.join()).not.toContain('rename to');
  });

  it('are ended where they came in before', async () => {
    expect(await weaken(server(16_400, false, [{}, {}]))).toBe(
      '2 sessions that came in as a superuser are being ended',
    );
  });
});

describe('a replica', () => {
  it('that its hinge leads to is not dropped', async () => {
    const sql = new ScriptedSql({ pg_inherits: [{}] });
    await expect(dropReplica(sql, 3, 4, 0)).rejects.toMatchObject({ code: 'REPLICA_IN_USE' });
    expect(sql.asked).toHaveLength(1);
  });

  it('that is locked has the size that was last seen', async () => {
    const rows = [
      { name: 't4_p0', bytes: '8192', rows: '10', locked: false },
      { name: 't4_p12', bytes: '16384', rows: '0', locked: true },
      { name: 'somebody_else', bytes: '1', rows: '1', locked: false },
    ];
    expect(await readSizes(new ScriptedSql({ pg_total_relation_size: rows }))).toEqual([
      { tid: 4, pid: 0, bytes: 8_192, rows: 10, isExact: true },
      { tid: 4, pid: 12, bytes: 16_384, rows: 0, isExact: false },
    ]);
  });
});

it('a checkpoint that takes too long goes on without us', async () => {
  await removeWal(new ScriptedSql({ CHECKPOINT: sqlFailure('57014') }));
  await expect(removeWal(new ScriptedSql({ CHECKPOINT: BROKEN }))).rejects.toBe(BROKEN);
});
