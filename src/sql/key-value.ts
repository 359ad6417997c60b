import { columnNamed, type Scope } from './allowed.ts';
import type { Fields } from './parser.ts';

/** The number of a parameter ($1 = 1), or the text of a literal. */
export type KeyValue = { readonly parameter: number } | { readonly literal: string };

/** A key's column, and its type as format_type gives it. */
export interface Key {
  readonly column: string;
  readonly type: string;
}

/** What the parser calls types; the ones that a value can be cast to and stay what it is. */
const CASTS: Readonly<Record<string, readonly string[]>> = {
  smallint: ['int2'],
  integer: ['int4'],
  bigint: ['int8'],
  boolean: ['bool'],
  text: ['text', 'varchar'],
  'character varying': ['text', 'varchar'],
  'timestamp without time zone': ['timestamp'],
  'timestamp with time zone': ['timestamptz'],
};
const INTEGERS = ['smallint', 'integer', 'bigint', 'oid'];

/** What a key has to be equal to, by `key = value` among the conditions of a WHERE that all have to hold. */
export function keyInWhere(where: unknown, key: Key, scope: Scope): KeyValue | null {
  const { BoolExpr: both, A_Expr: single } = (where ?? {}) as Record<string, Fields>;
  if (both?.boolop === 'AND_EXPR') {
    for (const condition of both.args as unknown[]) {
      const value = keyInWhere(condition, key, scope);
      if (value !== null) return value;
    }
  }
  if (single?.kind !== 'AEXPR_OP' || (single.name as { String?: Fields }[])[0]?.String?.sval !== '=') return null;
  const { lexpr, rexpr } = single;
  if (isColumn(lexpr, key, scope)) return keyValue(rexpr, key);
  return isColumn(rexpr, key, scope) ? keyValue(lexpr, key) : null;
}

function isColumn(node: unknown, key: Key, scope: Scope): boolean {
  const fields = (node as { ColumnRef?: Fields } | undefined)?.ColumnRef?.fields;
  return fields !== undefined && columnNamed(fields, scope) === key.column;
}

/** A parameter or a literal, as it is or cast to the key's own type; null: anything else. */
export function keyValue(node: unknown, key: Key): KeyValue | null {
  // An operator may have one side only: `OPERATOR(=) id`.
  const { ParamRef, A_Const, TypeCast } = (node ?? {}) as Record<string, Fields>;
  if (ParamRef !== undefined) return { parameter: ParamRef.number as number };
  if (A_Const !== undefined) return literalOf(A_Const, key.type);
  if (TypeCast === undefined || !keeps(TypeCast.typeName as Fields, key.type)) return null;
  const { TypeCast: another } = TypeCast.arg as Record<string, Fields>;
  return another === undefined ? keyValue(TypeCast.arg, key) : null;
}

function keeps(typeName: Fields, type: string): boolean {
  const base = type.replace(/\(.*/, '');
  const name = (typeName.names as { String?: Fields }[]).at(-1)?.String?.sval;
  return typeName.typmods === undefined && (CASTS[base] ?? [base]).includes(name as string);
}

/** Of its own kind only: what `5.0` or `5` becomes in another type is for the server to say. */
function literalOf(literal: Fields, type: string): KeyValue | null {
  const { ival, fval, boolval, sval } = literal as Record<string, Fields | undefined>;
  if (sval !== undefined) return { literal: (sval.sval as string | undefined) ?? '' };
  if (boolval !== undefined) return type === 'boolean' ? { literal: boolval.boolval === true ? 't' : 'f' } : null;
  if (ival !== undefined) return INTEGERS.includes(type) ? { literal: String(ival.ival ?? 0) } : null;
  const wide = fval?.fval as string | undefined;
  return type === 'bigint' && wide !== undefined && /^-?\d+$/.test(wide) ? { literal: wide } : null;
}
