import type { TableRecord } from '../../catalog/model.ts';
import { ident } from './client.ts';

/**
 * `"id" bigint NOT NULL, "name" text DEFAULT 'x', CONSTRAINT …`: shared by parent, replicas and foreign
 * tables, so that ATTACH finds them equal.
 */
export function columnsSql(table: TableRecord): string {
  const columns = table.definition.columns.map((c) => {
    const defaultSql = c.default === null ? '' : ` DEFAULT ${c.default}`;
    return `${ident(c.name)} ${c.type}${defaultSql}${c.notNull ? ' NOT NULL' : ''}`;
  });
  const checks = table.definition.checks.map((c) => `CONSTRAINT ${ident(c.name)} ${c.definition}`);
  return [...columns, ...checks].join(', ');
}
