import { humanBytes } from './units.ts';

/**
 * Data that exists on one server only, because no operation of the cluster ever copies it: it leaves with its
 * node.
 */
export interface LocalData {
  readonly database: string;
  readonly schema: string;
  /** Empty for large objects, which have no names. */
  readonly name: string;
  readonly kind: 'table' | 'materialized view' | 'sequence' | 'large objects';
  /**
   * null where it could not be looked at: somebody has locked it, or the time was up. A sequence has none.
   */
  readonly rows: number | null;
  /** `rows` is the planner's estimate, because there are many. */
  readonly estimated: boolean;
  /** Heap, TOAST and indexes. */
  readonly bytes: number | null;
}

/**
 * `notes (3 rows, 16.0 KiB), old.log (about 120000 rows, 9.00 MiB) and 2 more`, where there are `count` of
 * them.
 */
export function describeLocalData(found: readonly LocalData[], namedMax: number, count = found.length): string {
  const named = found.slice(0, namedMax);
  const more = count - named.length;
  return named.map(described).join(', ') + (more > 0 ? ` and ${more} more` : '');
}

/** What is known of all of them together. */
export function totalsOf(found: readonly LocalData[]): { count: number; rows: number; bytes: number } {
  return {
    count: found.length,
    rows: found.reduce((sum, each) => sum + (each.rows ?? 0), 0),
    bytes: found.reduce((sum, each) => sum + (each.bytes ?? 0), 0),
  };
}

function described(each: LocalData): string {
  const facts = [...rowsOf(each), ...(each.bytes === null ? [] : [humanBytes(each.bytes)])];
  return `${nameOf(each)} (${facts.join(', ')})`;
}

function rowsOf({ kind, rows, estimated }: LocalData): string[] {
  if (kind === 'sequence') return ['a sequence in use'];
  if (rows === null) return ['in use, not counted'];
  const thing = kind === 'large objects' ? (rows === 1 ? 'object' : 'objects') : rows === 1 ? 'row' : 'rows';
  return [`${estimated ? 'about ' : ''}${rows} ${thing}`];
}

/** As in psql: the schema `public` and the database `tide` go without saying. */
function nameOf({ database, schema, name, kind }: LocalData): string {
  const where = database === 'tide' ? '' : `${database}: `;
  if (kind === 'large objects') return `${where}large objects`;
  return `${where}${schema === 'public' ? '' : `${schema}.`}${name}`;
}
