import type { Fields, Node } from './parser.ts';

/**
 * What a statement may be made of that one partition answers as the whole table would: a list of what is
 * allowed, by type of node and field. Whatever is not in it is refused, with its name.
 */

/** What names mean, in one part of a statement. */
export interface Scope {
  /** By which the columns can be qualified. */
  readonly table: string;
  readonly columns: ReadonlySet<string>;
  /** Names that a SELECT gives to its results. */
  readonly results: ReadonlySet<string>;
  /** How often each parameter has been met: is counted while the statement is looked through. */
  readonly parameters: Map<number, number>;
  /** Names of functions and operators that were met: somebody may have made others that are called so. */
  readonly uses: Set<string>;
}

/** What is wrong with a field's value; null: nothing. */
export type Check = (value: unknown, scope: Scope) => string | null;
/** Checks of the fields that may be there. */
export type Shape = Readonly<Record<string, Check>>;

const any: Check = () => null;
const oneOf =
  (...values: readonly unknown[]): Check =>
  (value) =>
    values.includes(value) ? null : `it has ${String(value)}`;

/** Looks at the fields of a node, whose `location` may be anywhere. */
export function fieldsReason(fields: Fields, shape: Shape, scope: Scope): string | null {
  for (const field in fields) {
    if (field === 'location') continue;
    const check = Object.hasOwn(shape, field) ? shape[field] : undefined;
    const reason = check ? check(fields[field], scope) : `it has ${FIELDS[field] ?? field}`;
    if (reason !== null) return reason;
  }
  return null;
}

/** How people call a node of this type. */
export function typeName(node: Node): string {
  const [type = 'nothing'] = Object.keys(node);
  return TYPES[type] ?? type;
}

/** Looks at a node of one of some types. */
export function nodeReason(node: unknown, shapes: Readonly<Record<string, Shape>>, scope: Scope): string | null {
  for (const type in node as object) {
    const shape = Object.hasOwn(shapes, type) ? shapes[type] : undefined;
    if (shape === undefined) return `it has ${typeName(node as Node)}`;
    return fieldsReason((node as Record<string, Fields>)[type] ?? {}, shape, scope);
  }
  return 'it has a node without a type';
}

/** For lists: what is wrong with the first element that has something wrong. */
export const each =
  (check: Check): Check =>
  (list, scope) => {
    for (const element of list as unknown[]) {
      const reason = check(element, scope);
      if (reason !== null) return reason;
    }
    return null;
  };

export const expression: Check = (node, scope) => nodeReason(node, EXPRESSIONS, scope);
const expressions = each(expression);

const names = (list: unknown): string[] =>
  (list as { String?: { sval?: string } }[]).map((name) => name.String?.sval ?? '*');

/**
 * A column's name, alone or behind the table's. Null: another column, all of them, or something of another
 * kind.
 */
export function columnNamed(fields: unknown, scope: Scope): string | null {
  const parts = names(fields);
  const name = parts.at(-1) ?? '';
  if (parts.length > 2 || (parts.length === 2 && parts[0] !== scope.table)) return null;
  return scope.columns.has(name) ? name : null;
}

const column: Check = (fields, scope) =>
  columnNamed(fields, scope) === null ? `${names(fields).join('.')} is no column of the table` : null;

const parameter: Check = (number, { parameters }) => {
  parameters.set(number as number, (parameters.get(number as number) ?? 0) + 1);
  return null;
};

const OPERATORS = new Set(['=', '<>', '<', '<=', '>', '>=', '+', '-', '*', '/', '%', '||']);
/** What LIKE is called inside. */
for (const name of ['~~', '!~~', '~~*', '!~~*']) OPERATORS.add(name);
/** What is two comparisons. */
const BETWEEN = new Map([
  ['BETWEEN', ['>=', '<=']],
  ['NOT BETWEEN', ['<', '>']],
]);

const operator: Check = (list, { uses }) => {
  const name = names(list).join('.');
  for (const used of BETWEEN.get(name) ?? [name]) uses.add(used);
  return OPERATORS.has(name) || BETWEEN.has(name) ? null : `it has the operator ${name}`;
};

/** Of CASE: the values are compared with it. */
const compared: Check = (node, scope) => {
  scope.uses.add('=');
  return expression(node, scope);
};

/** They are read once, and mean another moment each time. */
const MOMENTS = /now|today|tomorrow|yesterday/i;

const text: Check = (value) =>
  MOMENTS.test((value as { sval?: string }).sval ?? '') ? 'it has a text with now, today or the like' : null;

const KINDS = oneOf(
  ...['OP', 'IN', 'LIKE', 'ILIKE', 'BETWEEN', 'NOT_BETWEEN', 'NULLIF', 'DISTINCT', 'NOT_DISTINCT'].map(
    (kind) => `AEXPR_${kind}`,
  ),
);

/** Immutable ones, and aggregates: all rows that they are to see are in one partition. */
const FUNCTIONS = new Set([
  ...['lower', 'upper', 'length', 'char_length', 'character_length', 'octet_length', 'substr', 'substring'],
  ...['btrim', 'ltrim', 'rtrim', 'left', 'right', 'replace', 'strpos', 'position', 'like_escape', 'md5'],
  ...['abs', 'round', 'floor', 'ceil', 'ceiling', 'trunc', 'sign', 'mod'],
  ...['count', 'sum', 'min', 'max', 'avg'],
]);

const builtIn =
  (known: ReadonlySet<string>, what: string): Check =>
  (list, { uses }) => {
    const parts = names(list);
    const [name = ''] = parts.slice(-1);
    uses.add(name);
    const isOurs = parts.length === 1 || (parts.length === 2 && parts[0] === 'pg_catalog');
    return isOurs && known.has(name) ? null : `it has the ${what} ${parts.join('.')}`;
  };

const CAST_TYPES = new Set([
  ...['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'text', 'varchar', 'uuid', 'bytea', 'oid'],
  ...['date', 'time', 'timestamp', 'timestamptz', 'interval', 'json', 'jsonb'],
]);

const TYPE_NAME: Shape = { names: builtIn(CAST_TYPES, 'type'), typemod: oneOf(-1), typmods: expressions };

const EXPRESSIONS: Readonly<Record<string, Shape>> = {
  ColumnRef: { fields: column },
  ParamRef: { number: parameter },
  A_Const: { ival: any, fval: any, boolval: any, sval: text, isnull: any },
  A_Expr: {
    kind: KINDS,
    name: operator,
    lexpr: expression,
    rexpr: expression,
    rexpr_list_start: any,
    rexpr_list_end: any,
  },
  // Of IN and BETWEEN.
  List: { items: (list, scope) => expressions(list, scope) },
  BoolExpr: { boolop: any, args: (list, scope) => expressions(list, scope) },
  NullTest: { arg: expression, nulltesttype: any },
  BooleanTest: { arg: expression, booltesttype: any },
  CaseExpr: { arg: compared, args: (list, scope) => expressions(list, scope), defresult: expression },
  CaseWhen: { expr: expression, result: expression },
  CoalesceExpr: { args: (list, scope) => expressions(list, scope) },
  MinMaxExpr: { op: any, args: (list, scope) => expressions(list, scope) },
  FuncCall: {
    funcname: builtIn(FUNCTIONS, 'function'),
    args: (list, scope) => expressions(list, scope),
    agg_star: any,
    funcformat: any,
  },
  TypeCast: { arg: expression, typeName: (name, scope) => fieldsReason(name as Fields, TYPE_NAME, scope) },
};

/** All columns, where a list of results is. */
const star: Check = (node, scope) => {
  const fields = (node as { ColumnRef?: { fields: unknown[] } }).ColumnRef?.fields;
  if (fields === undefined || !isStar(fields.at(-1))) return expression(node, scope);
  const [qualifier] = fields.length === 2 ? names(fields) : [scope.table];
  return fields.length <= 2 && qualifier === scope.table ? null : `${names(fields).join('.')} is not of the table`;
};

function isStar(field: unknown): boolean {
  return Object.hasOwn(field as object, 'A_Star');
}

/** What a SELECT or a RETURNING gives back. */
const results = each((node, scope) => nodeReason(node, { ResTarget: { name: any, val: star } }, scope));

/** A value that a column is to have. */
export const newValue: Check = (node, scope) => nodeReason(node, { ...EXPRESSIONS, SetToDefault: {} }, scope);

/** Where a result can be named; alone, it need be no column. */
const byResult: Check = (node, scope) => {
  const fields = (node as { ColumnRef?: { fields: unknown[] } }).ColumnRef?.fields ?? [];
  return fields.length === 1 && scope.results.has(names(fields)[0] ?? '') ? null : expression(node, scope);
};

const SORT_BY: Shape = {
  node: byResult,
  sortby_dir: oneOf('SORTBY_DEFAULT', 'SORTBY_ASC', 'SORTBY_DESC'),
  sortby_nulls: any,
};

/** DISTINCT alone has one empty element. */
const distinct = each((node, scope) => (Object.keys(node as object).length === 0 ? null : byResult(node, scope)));

/** All but FROM. */
export const SELECT: Shape = {
  targetList: results,
  whereClause: expression,
  groupClause: each(byResult),
  havingClause: expression,
  sortClause: each((node, scope) => nodeReason(node, { SortBy: SORT_BY }, scope)),
  distinctClause: distinct,
  limitCount: expression,
  limitOffset: expression,
  limitOption: oneOf('LIMIT_OPTION_DEFAULT', 'LIMIT_OPTION_COUNT'),
  op: oneOf('SETOP_NONE'),
};

export const RETURNING: Check = (clause, scope) => fieldsReason(clause as Fields, { exprs: results }, scope);

export const RELATION: Shape = {
  schemaname: any,
  relname: any,
  inh: any,
  relpersistence: oneOf('p'),
  alias: (alias, scope) => fieldsReason(alias as Fields, { aliasname: any }, scope),
};

/** How people call them. */
const TYPES: Readonly<Record<string, string>> = {
  SubLink: 'a subquery',
  RangeSubselect: 'a subquery',
  JoinExpr: 'a join',
  RangeFunction: 'a function in FROM',
  RangeTableSample: 'TABLESAMPLE',
  SQLValueFunction: 'CURRENT_DATE or the like',
  CollateClause: 'COLLATE',
  A_ArrayExpr: 'ARRAY',
  A_Indirection: 'a part of a value',
  RowExpr: 'a row',
  CurrentOfExpr: 'CURRENT OF',
  GroupingSet: 'GROUPING SETS',
  MultiAssignRef: 'an assignment to several columns',
  SetToDefault: 'DEFAULT',
};

const FIELDS: Readonly<Record<string, string>> = {
  withClause: 'WITH',
  lockingClause: 'FOR UPDATE or the like',
  intoClause: 'INTO',
  windowClause: 'WINDOW',
  over: 'OVER',
  agg_distinct: 'DISTINCT in an aggregate',
  agg_order: 'ORDER BY in an aggregate',
  agg_filter: 'FILTER',
  func_variadic: 'VARIADIC',
  onConflictClause: 'ON CONFLICT',
  usingClause: 'USING',
  fromClause: 'FROM',
  valuesLists: 'VALUES',
  groupDistinct: 'GROUP BY DISTINCT',
  bsval: 'a string of bits',
  arrayBounds: 'an array',
  catalogname: 'the name of a database',
  colnames: 'names of columns behind an alias',
  indirection: 'a part of a column',
  options: 'names for old and new rows',
};
