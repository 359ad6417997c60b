import { must } from '../core/assert.ts';
import { keyHash } from '../routing/hash.ts';
import type { TopologyTable } from '../routing/topology.ts';
import {
  each,
  expression,
  fieldsReason,
  newValue,
  nodeReason,
  RELATION,
  RETURNING,
  type Scope,
  SELECT,
  type Shape,
  typeName,
} from './allowed.ts';
import { type Key, type KeyValue, keyInWhere, keyValue } from './key-value.ts';
import { type Fields, type Node, parseOne } from './parser.ts';
import { type Rewrite, rewriting } from './rewrite.ts';

/**
 * A statement that one partition answers by itself, as the whole table would: the same rows, the same
 * columns, the same names for them.
 *
 * That holds where the session is an ordinary one, for which the caller has to stand: names that have no
 * schema mean what is built in, and tables as `find` says (nothing of a user's has a name that the statement
 * `uses`); `standard_conforming_strings` is on; the
 * client's encoding is UTF-8; the same settings and role at the server that it is sent to, with the rights on
 * the hinge that the role has on the table; no row security, rule or trigger of the table's own.
 */
export interface PointStatement {
  readonly kind: 'read' | 'write';
  readonly tid: number;
  /**
   * Where the key's value is. A parameter may be declared as one of KeyHash's parameterTypes or not at all:
   * one of another type the server may compare otherwise.
   */
  readonly key: KeyValue;
  /** As format_type gives it, for `keyHash`. */
  readonly keyType: string;
  /** Names of functions, operators and types in it, PostgreSQL's own. */
  readonly uses: ReadonlySet<string>;
  /** The text with a hinge (as it is to be written, with its schema) in the table's place. */
  on(hinge: string): string;
  /**
   * What an error's position in the rewritten text is in the client's (characters, the first is 1). Within
   * the hinge's name it is where the table's begins.
   */
  positionInOriginal(position: number, hinge: string): number;
}

export interface NotRouted {
  readonly because: string;
}

type Find = (schema: string | null, name: string) => TopologyTable | null;

/** Reads one statement. Never throws; `because` says why it is not a point statement. */
export function pointStatement(text: string, find: Find): PointStatement | NotRouted {
  try {
    return read(text, find);
  } catch {
    return { because: 'it is nested deeper than the stack is' };
  }
}

function read(text: string, find: Find): PointStatement | NotRouted {
  const parsed = parseOne(text);
  if ('because' in parsed) return parsed as NotRouted;
  const { SelectStmt, InsertStmt, UpdateStmt, DeleteStmt } = parsed as Node;
  if (SelectStmt) return select(SelectStmt, text, find);
  if (InsertStmt) return write(InsertStmt, INSERT, insertedKey, text, find);
  if (UpdateStmt) return write(UpdateStmt, UPDATE, changedKey, text, find);
  if (DeleteStmt) return write(DeleteStmt, DELETE, ({ whereClause }, at) => whereKey(whereClause, at), text, find);
  return { because: `it is ${Object.keys(parsed).join()}` };
}

/** The table of a statement, and where its name is. */
interface Target {
  readonly table: TopologyTable;
  readonly key: Key;
  readonly scope: Scope;
  readonly rewrite: Rewrite;
}

function target(relation: Fields, text: string, find: Find): Target | NotRouted {
  const schema = (relation.schemaname as string | undefined) ?? null;
  const name = relation.relname as string;
  const alias = (relation.alias as Fields | undefined)?.aliasname as string | undefined;
  const columns = new Set<string>();
  const scope: Scope = { table: alias ?? name, columns, results: NOTHING, parameters: new Map(), uses: new Set(['=']) };
  const reason = fieldsReason(relation, RELATION, scope);
  if (reason !== null) return { because: reason };
  // A field that is false is left out.
  if (relation.inh !== true) return { because: 'it has ONLY' };
  const table = find(schema, name);
  if (table === null) return { because: `${name} is no distributed table` };
  if (table.state !== 'ready') return { because: `the table is ${table.state}` };
  // They have a meaning of their own in RETURNING.
  if (scope.table === 'old' || scope.table === 'new') return { because: `the table is called ${scope.table}` };
  const column = table.distributeBy;
  const key = {
    column,
    type: must(
      table.columns.find((c) => c.name === column),
      column,
    ).type,
  };
  if (keyHash(key.type) === null) return { because: `the key’s type is ${key.type}` };
  for (const { name: of } of table.columns) columns.add(of);
  const parts = schema === null ? [name] : [schema, name];
  const rewrite = rewriting(
    text,
    (relation.location as number | undefined) ?? 0,
    parts,
    alias === undefined ? name : null,
  );
  return rewrite === null ? { because: 'the table’s name is written in an odd way' } : { table, key, scope, rewrite };
}

function select(statement: Fields, text: string, find: Find): PointStatement | NotRouted {
  const { fromClause, ...rest } = statement;
  const [from, ...others] = (fromClause as Node[] | undefined) ?? [];
  if (rest.larg !== undefined) return { because: 'it is a UNION or the like' };
  if (from === undefined) return { because: 'it has no FROM' };
  if (others.length > 0) return { because: 'it has several tables in FROM' };
  if (from.RangeVar === undefined) return { because: `it has ${typeName(from)}` };
  const at = target(from.RangeVar, text, find);
  if ('because' in at) return at;
  const reason = fieldsReason(rest, SELECT, { ...at.scope, results: resultNames(rest.targetList) });
  if (reason !== null) return { because: reason };
  return point('read', at, whereKey(rest.whereClause, at));
}

const NOTHING: ReadonlySet<string> = new Set();

/** What a statement calls its results. */
function resultNames(targets: unknown): ReadonlySet<string> {
  const named = (targets as { ResTarget?: { name?: string } }[] | undefined) ?? [];
  return new Set(named.flatMap((t) => t.ResTarget?.name ?? []));
}

const INSERT: Shape = {
  cols: each((node, scope) => nodeReason(node, { ResTarget: { name: () => null } }, scope)),
  selectStmt: (source, scope) => nodeReason(source, { SelectStmt: VALUES }, { ...scope, columns: NOTHING }),
  returningClause: RETURNING,
  override: (override) => (override === 'OVERRIDING_NOT_SET' ? null : 'it has OVERRIDING'),
};
const VALUES: Shape = {
  valuesLists: (rows, scope) => {
    const [row, ...more] = rows as { List: { items: unknown } }[];
    return more.length > 0 ? 'it has several rows' : each(newValue)(row?.List.items, scope);
  },
  limitOption: (option) => (option === 'LIMIT_OPTION_DEFAULT' ? null : 'it has LIMIT'),
  op: (op) => (op === 'SETOP_NONE' ? null : `it has ${op}`),
};
const UPDATE: Shape = {
  targetList: each((node, scope) => nodeReason(node, { ResTarget: { name: () => null, val: newValue } }, scope)),
  whereClause: expression,
  returningClause: RETURNING,
};
const DELETE: Shape = { whereClause: expression, returningClause: RETURNING };

type KeyOf = (statement: Fields, at: Target) => KeyValue | NotRouted;

function write(
  { relation, ...statement }: Fields,
  shape: Shape,
  keyOf: KeyOf,
  text: string,
  find: Find,
): PointStatement | NotRouted {
  const at = target(relation as Fields, text, find);
  if ('because' in at) return at;
  const reason = fieldsReason(statement, shape, at.scope);
  return reason === null ? point('write', at, keyOf(statement, at)) : { because: reason };
}

/** The values stand in the order of the columns that are named, or else in that of the table's. */
const insertedKey: KeyOf = (statement, { table, key }) => {
  const values = valuesOf(statement);
  if (values === null) return { because: 'it has no VALUES' };
  const named = (statement.cols as { ResTarget: { name: string } }[] | undefined)?.map((c) => c.ResTarget.name);
  const columns = named ?? table.columns.map(({ name }) => name);
  const unknown = columns.find((name, i) => columns.indexOf(name) !== i || !table.columns.some((c) => c.name === name));
  if (unknown !== undefined) return { because: `${unknown} is no column of the table, or there twice` };
  if (named ? values.length !== columns.length : values.length > columns.length)
    return { because: 'it has more or fewer values than columns' };
  const value = values[columns.indexOf(key.column)];
  const given = value === undefined ? null : keyValue(value, key);
  return given ?? { because: `${key.column} is given no value that is a parameter or a literal` };
};

function valuesOf(statement: Fields): unknown[] | null {
  const source = (statement.selectStmt as Node | undefined)?.SelectStmt;
  const [row] = (source?.valuesLists as { List: { items: unknown[] } }[] | undefined) ?? [];
  return row?.List.items ?? null;
}

const changedKey: KeyOf = (statement, at) => {
  const changed = (statement.targetList as { ResTarget: { name: string } }[]).map((t) => t.ResTarget.name);
  const other = changed.find((name) => !at.scope.columns.has(name) || name === at.key.column);
  if (other === at.key.column) return { because: 'it changes the key' };
  if (other !== undefined) return { because: `${other} is no column of the table` };
  return whereKey(statement.whereClause, at);
};

function whereKey(where: unknown, { key, scope }: Target): KeyValue | NotRouted {
  const value = keyInWhere(where, key, scope);
  return value ?? { because: `${key.column} is not held equal to a parameter or a literal` };
}

/** A parameter that is used elsewhere may have its type from there, and be compared as that. */
function point(kind: 'read' | 'write', at: Target, key: KeyValue | NotRouted): PointStatement | NotRouted {
  if ('because' in key) return key;
  if ('parameter' in key && at.scope.parameters.get(key.parameter) !== 1)
    return { because: `$${key.parameter} is used more than once` };
  return { kind, tid: at.table.tid, key, keyType: at.key.type, uses: at.scope.uses, ...at.rewrite };
}
