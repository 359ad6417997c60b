import { SCHEMAS } from '../../catalog/names.ts';
import { must } from '../../core/assert.ts';
import type { Inventory, InventoryKind } from '../../manager/ports.ts';
import { ident, qualified, type Sql } from './client.ts';
import { dropForeignServerNamed } from './hinge.ts';
import { dropSlot } from './slots.ts';
import { dropSubscriptionSql } from './subscription.ts';

/**
 * Everything of pgtide's kind in a server, whoever it belongs to. Slots of running table synchronisations are
 * PostgreSQL's own.
 */
const QUERIES: Record<InventoryKind, string> = {
  publication: `select pubname as name from pg_publication where pubname like 'tide\\_to\\_%'`,
  'published-table': `select pubname || '.' || tablename as name from pg_publication_tables
                       where pubname like 'tide\\_to\\_%' and schemaname = 'tide_data'`,
  subscription: `select subname as name from pg_subscription where subname like 'tide\\_%'`,
  slot: `select slot_name as name from pg_replication_slots
          where slot_name like 'tide\\_%' or (slot_name like 'pg\\_%\\_sync\\_%' and not active)`,
  // A subscription's own origin is pg_<oid>, a table synchronisation's pg_<oid>_<relid>.
  origin: `select roname as name from pg_replication_origin o
            where roname ~ '^pg_\\d+(_\\d+)?$'
              and not exists (select from pg_subscription s where o.roname ~ ('^pg_' || s.oid || '(_\\d+)?$'))`,
  'replica-table': `select relname as name from pg_class where relnamespace = 'tide_data'::regnamespace and relkind = 'r'`,
  'foreign-table': `select relname as name from pg_class c where relnamespace = 'tide_remote'::regnamespace and relkind = 'f'
                     and not exists (select from pg_inherits i where i.inhrelid = c.oid)`,
  server: `select srvname as name from pg_foreign_server where srvname like 'tide\\_%'`,
  parent: `select tid::text as name from tide.distributed`,
};

export async function readInventory(sql: Sql): Promise<Inventory> {
  const found: Partial<Inventory> = {};
  for (const [kind, query] of Object.entries(QUERIES)) {
    found[kind as InventoryKind] = (await sql.query<{ name: string }>(`${query} order by 1`)).map((r) => r.name);
  }
  return found as Inventory;
}

/** Removes one leftover. Throws PostgreSQL's own error where something still depends on it. */
export async function removeObject(sql: Sql, kind: InventoryKind, name: string): Promise<void> {
  const lock = "SET LOCAL lock_timeout = '3s'";
  switch (kind) {
    case 'publication':
      await sql.query(`DROP PUBLICATION IF EXISTS ${ident(name)}`);
      return;
    case 'published-table': {
      const [publication, table] = name.split('.');
      const target = qualified(SCHEMAS.data, must(table, 'table'));
      await sql.query(`${lock}; ALTER PUBLICATION ${ident(must(publication, 'publication'))} DROP TABLE ${target}`);
      return;
    }
    case 'subscription':
      for (const statement of dropSubscriptionSql(name)) await sql.query(statement);
      return;
    case 'slot':
      await dropSlot(sql, name);
      return;
    case 'origin':
      await sql.query('select pg_replication_origin_drop($1)', [name]);
      return;
    case 'replica-table':
      await sql.query(`${lock}; DROP TABLE IF EXISTS ${qualified(SCHEMAS.data, name)}`);
      return;
    case 'foreign-table':
      await sql.query(`${lock}; DROP FOREIGN TABLE IF EXISTS ${qualified(SCHEMAS.remote, name)}`);
      return;
    case 'server':
      await dropForeignServerNamed(sql, name);
      return;
    case 'parent': {
      const [row] = await sql.query<{ name: string }>(
        'select relid::regclass::text as name from tide.distributed d join pg_class c on c.oid = d.relid where tid = $1',
        [Number(name)],
      );
      if (row) await sql.query(`${lock}; DROP TABLE ${row.name} CASCADE`);
      await sql.query('delete from tide.distributed where tid = $1', [Number(name)]);
    }
  }
}
