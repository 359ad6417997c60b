import type { TopologyTable } from '../../../src/routing/topology.ts';

function table(tid: number, name: string, distributeBy: string, columns: Record<string, string>): TopologyTable {
  const facts = { tid, schema: 'public', name, state: 'ready' as const, distributeBy, primaryKey: [distributeBy] };
  const partitions = [0, 1, 2, 3].map((pid) => ({ tid, pid, epoch: 1, leader: 1, replicas: [] }));
  return {
    ...facts,
    columns: Object.entries(columns).map(([of, type]) => ({ name: of, type, notNull: of === distributeBy })),
    partitions,
  };
}

const OTHERS = { note: 'text' };

/** Tables that statements are about. `acct` also has names that have to be quoted. */
export const TABLES: readonly TopologyTable[] = [
  table(4, 'acct', 'id', {
    id: 'bigint',
    name: 'character varying(40)',
    balance: 'numeric(12,2)',
    at: 'timestamp with time zone',
    open: 'boolean',
    tags: 'jsonb',
    Größe: 'integer',
  }),
  table(5, 'person', 'email', { email: 'text', age: 'smallint' }),
  table(6, 'doc', 'ref', { ref: 'uuid', body: 'text' }),
  table(7, 'flag', 'on', { on: 'boolean', ...OTHERS }),
  table(8, 'day', 'd', { d: 'date', ...OTHERS }),
  table(9, 'small', 'k', { k: 'smallint', ...OTHERS }),
  table(10, 'price', 'p', { p: 'numeric', ...OTHERS }),
  table(11, 'Odd "name"', 'a b', { 'a b': 'integer', ...OTHERS }),
  table(12, 'new', 'id', { id: 'integer', ...OTHERS }),
  table(13, 'u', 'id', { id: 'integer', ...OTHERS }),
  { ...table(14, 'going', 'id', { id: 'integer' }), state: 'dropping' },
  table(15, 'short', 'code', { code: 'character varying(3)', ...OTHERS }),
];

/** As a session that has `public` in its search_path finds them. */
export function findTable(schema: string | null, name: string): TopologyTable | null {
  return TABLES.find((t) => t.name === name && (schema === null || schema === t.schema)) ?? null;
}
