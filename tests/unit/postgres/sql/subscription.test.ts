import { describe, expect, it } from 'vitest';
import { streamConnection } from '../../../../src/postgres/connect.ts';
import { prepareRenewal, renew } from '../../../../src/postgres/sql/renewal.ts';
import {
  createSubscription,
  dropSubscriptionSql,
  ensureSubscription,
} from '../../../../src/postgres/sql/subscription.ts';
import { ScriptedSql } from '../support/scripted-sql.ts';

const SENDER = { host: "o'brien", port: 27_257 };
const CONNINFO = streamConnection(SENDER, 'tide_1_2');
const AS_IT_SHOULD = { conninfo: CONNINFO, owner: 'tide_manager', asOwner: true };

/** What is done about a subscription that is there. */
async function ensured(found: object): Promise<string[]> {
  const sql = new ScriptedSql({ subconninfo: [found] });
  await ensureSubscription(sql, 1, 2, SENDER);
  return sql.asked.slice(1);
}

describe('a subscription', () => {
  it('is made behind the marker that it will raise, under a role that nothing ends', async () => {
    const sql = new ScriptedSql();
    await ensureSubscription(sql, 1, 2, SENDER);
    const [, marker, shield, create] = sql.asked;
    expect(marker).toBe('INSERT INTO tide.marker VALUES (1, 0) ON CONFLICT DO NOTHING');
    expect(shield).toContain("ALTER ROLE tide_manager IN DATABASE tide SET statement_timeout = '0'");
    expect(create).toMatch(/^CREATE SUBSCRIPTION "tide_1_2" CONNECTION .* PUBLICATION "tide_to_2" WITH \(/);
    expect(create).toMatch(/create_slot = false, slot_name = "tide_1_2", enabled = true, origin = none,/);
    expect(create).toContain('copy_data = false');
  });

  it('is made to send on nothing that came from others', async () => {
    const sql = new ScriptedSql();
    await createSubscription(sql, 1, 2, SENDER, { name: 'tide_1_2_next', enabled: false });
    expect(sql.asked.at(-1)).toContain(', origin = none, ');
  });

  it('is left alone where it is as it should be', async () => {
    expect(await ensured(AS_IT_SHOULD)).toEqual([]);
  });

  it('gets what has changed, and no more', async () => {
    expect(await ensured({ ...AS_IT_SHOULD, asOwner: false })).toEqual([
      'ALTER SUBSCRIPTION "tide_1_2" SET (run_as_owner = true)',
    ]);
    const [moved = ''] = await ensured({ ...AS_IT_SHOULD, conninfo: streamConnection({ host: 'a', port: 1 }, 'x') });
    expect(moved).toMatch(/^ALTER SUBSCRIPTION "tide_1_2" CONNECTION E'host=/);
    const [shield, owner] = await ensured({ ...AS_IT_SHOULD, owner: 'tide' });
    expect(shield).toContain('ALTER ROLE tide_manager IN DATABASE tide');
    expect(owner).toBe('ALTER SUBSCRIPTION "tide_1_2" OWNER TO "tide_manager"');
  });

  it('is dropped without a word to its sender', () => {
    expect(dropSubscriptionSql('tide_1_2').join('; ')).toMatch(/DISABLE.*SET \(slot_name = NONE\).*DROP SUBSCRIPTION/s);
  });
});

describe('its renewal', () => {
  it('is prepared beside it, disabled, for the same slot', async () => {
    const sql = new ScriptedSql();
    await prepareRenewal(sql, 1, 2, SENDER);
    expect(sql.asked.at(-1)).toMatch(/^CREATE SUBSCRIPTION "tide_1_2_next" .*slot_name = "tide_1_2", enabled = false/);
  });

  it('goes on where it was, and takes its place in one transaction', async () => {
    const sql = new ScriptedSql();
    await renew(sql, 1, 2, 4_711);
    const [advance, ...rest] = sql.asked;
    expect(advance).toContain("'0/0'::pg_lsn + 4711");
    expect(rest).toEqual([
      'BEGIN',
      'ALTER SUBSCRIPTION "tide_1_2" SET (slot_name = NONE)',
      'ALTER SUBSCRIPTION "tide_1_2" RENAME TO "tide_1_2_past"',
      'ALTER SUBSCRIPTION "tide_1_2_next" RENAME TO "tide_1_2"',
      'ALTER SUBSCRIPTION "tide_1_2" ENABLE',
      'COMMIT',
    ]);
  });

  it('of one that has applied nothing begins at the beginning', async () => {
    const sql = new ScriptedSql();
    await renew(sql, 1, 2, 0);
    expect(sql.asked[0]).toBe('BEGIN');
  });
});
