import { expect, it } from 'vitest';
import { createTable, withCluster } from '../support/cluster.ts';

/**
 * ADR 0006: what reaches one node only is refused where nodes have to be equal, and is nobody's business
 * elsewhere.
 */
it('DDL on a distributed table is refused with its reason; ordinary DDL works and stays among the user’s own', async () => {
  await withCluster(1, async (cluster) => {
    await createTable(cluster, 'CREATE TABLE acct (id bigint PRIMARY KEY, owner text)', { partitions: 2 });
    const sql = cluster.sql(1);

    const refused = [
      'ALTER TABLE acct ADD COLUMN note text',
      'CREATE INDEX ON acct (owner)',
      'CREATE TRIGGER x BEFORE UPDATE ON acct EXECUTE FUNCTION suppress_redundant_updates_trigger()',
      'DROP TABLE acct',
      'CREATE TABLE tide_data.x (id int)',
    ];
    for (const text of refused) await expect(sql.query(text), text).rejects.toMatchObject({ code: 'TD002' });
    await sql.query('INSERT INTO acct VALUES (1, $1)', ['ada']);
    await expect(sql.query('UPDATE acct SET id = 2')).rejects.toMatchObject({ code: 'TD003' });

    await sql.query('CREATE TABLE note (id int PRIMARY KEY)');
    const made = await sql.query(
      "SELECT relnamespace::regnamespace::text AS schema FROM pg_class WHERE relname = 'note'",
    );
    expect(made.rows).toEqual([{ schema: 'public' }]);
    await sql.query('ALTER TABLE note ADD COLUMN text text; CREATE INDEX ON note (text)');
    await sql.query('CREATE VIEW owners AS SELECT owner FROM acct; GRANT SELECT ON acct TO pg_monitor');
    await sql.query('DROP VIEW owners; DROP TABLE note');
  });
});
