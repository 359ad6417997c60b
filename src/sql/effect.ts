import { type Fields, type Node, parseAll } from './parser.ts';

/**
 * Statements that change nothing but rows. What they contain may still do: every function is asked for.
 */
const STATEMENTS = new Set([
  'SelectStmt',
  'InsertStmt',
  'UpdateStmt',
  'DeleteStmt',
  'MergeStmt',
  'TransactionStmt',
  'VariableShowStmt',
  'ExplainStmt',
  'TruncateStmt',
  'CallStmt',
]);

/** BEGIN and the like; those for prepared transactions are other ones. */
const TRANSACTION = new Set([
  'TRANS_STMT_BEGIN',
  'TRANS_STMT_START',
  'TRANS_STMT_COMMIT',
  'TRANS_STMT_ROLLBACK',
  'TRANS_STMT_SAVEPOINT',
  'TRANS_STMT_RELEASE',
  'TRANS_STMT_ROLLBACK_TO',
]);

/** Anywhere inside a statement: they make a table of the session's own, or keep something beyond it. */
const NEVER = new Set(['intoClause', 'IntoClause', 'CreateTableAsStmt', 'ExecuteStmt', 'DeclareCursorStmt']);

/** Functions of PostgreSQL's that change nothing of a session, by what clients and object mappers ask. */
const FUNCTIONS = new Set([
  ...['count', 'sum', 'avg', 'min', 'max', 'bool_and', 'bool_or', 'every', 'string_agg', 'array_agg', 'json_agg'],
  ...['jsonb_agg', 'json_object_agg', 'jsonb_object_agg', 'row_number', 'rank', 'dense_rank', 'lag', 'lead'],
  ...['first_value', 'last_value', 'ntile', 'percentile_cont', 'percentile_disc', 'mode'],
  ...['lower', 'upper', 'length', 'char_length', 'character_length', 'octet_length', 'substr', 'substring', 'btrim'],
  ...['ltrim', 'rtrim', 'left', 'right', 'replace', 'strpos', 'position', 'like_escape', 'md5', 'concat', 'concat_ws'],
  ...['format', 'lpad', 'rpad', 'repeat', 'reverse', 'split_part', 'initcap', 'translate', 'regexp_replace'],
  ...['regexp_matches', 'regexp_match', 'string_to_array', 'array_to_string', 'array_length', 'array_position'],
  ...['array_append', 'array_remove', 'unnest', 'cardinality', 'generate_series', 'generate_subscripts'],
  ...[
    'abs',
    'round',
    'floor',
    'ceil',
    'ceiling',
    'trunc',
    'sign',
    'mod',
    'power',
    'sqrt',
    'random',
    'greatest',
    'least',
  ],
  ...['now', 'clock_timestamp', 'statement_timestamp', 'transaction_timestamp', 'date_trunc', 'date_part', 'extract'],
  ...['age', 'to_char', 'to_date', 'to_timestamp', 'to_number', 'make_date', 'make_interval', 'timezone', 'date_bin'],
  ...['coalesce', 'nullif', 'gen_random_uuid', 'uuidv4', 'uuidv7', 'encode', 'decode', 'to_json', 'to_jsonb'],
  ...['json_build_object', 'jsonb_build_object', 'json_build_array', 'jsonb_build_array', 'row_to_json', 'jsonb_set'],
  ...['jsonb_array_elements', 'jsonb_array_elements_text', 'json_array_elements', 'jsonb_each', 'jsonb_object_keys'],
  ...['version', 'current_database', 'current_schema', 'current_schemas', 'current_setting', 'pg_backend_pid'],
  ...[
    'pg_sleep',
    'pg_typeof',
    'format_type',
    'pg_get_expr',
    'pg_get_userbyid',
    'pg_get_indexdef',
    'pg_get_constraintdef',
  ],
  ...[
    'pg_get_viewdef',
    'pg_table_is_visible',
    'pg_type_is_visible',
    'obj_description',
    'col_description',
    'quote_ident',
  ],
  ...['quote_literal', 'to_regclass', 'to_regtype', 'has_table_privilege', 'has_schema_privilege', 'pg_relation_size'],
  ...['pg_total_relation_size', 'pg_table_size', 'pg_encoding_to_char', 'pg_is_in_recovery', 'txid_current'],
  ...['nextval', 'currval', 'lastval', 'setval'],
]);

/**
 * What a text that was executed leaves in its session: nothing but rows and prepared statements; other
 * settings; or what nobody knows (a temporary table, what a function has done).
 */
export type Effect = 'nothing' | 'settings' | 'unknown';

export interface Names {
  /** Whether it is a distributed table: such a one has no triggers, and no rules. */
  isDistributed(schema: string | null, name: string): boolean;
  /** Whether a function that somebody has made is called so. */
  isUsers(name: string): boolean;
}

/** Only what is known to leave nothing does: everything else might not. Never throws. */
export function effectOf(text: string, names: Names): Effect {
  if (text.trim() === '') return 'nothing';
  const statements = parseAll(text);
  if ('because' in statements) return 'unknown';
  try {
    const effects = new Set(statements.map((statement) => effectOfOne(statement, names)));
    if (effects.has('unknown')) return 'unknown';
    return effects.has('settings') ? 'settings' : 'nothing';
  } catch {
    // It is nested deeper than the stack is.
    return 'unknown';
  }
}

function effectOfOne(statement: Node, names: Names): Effect {
  const [kind = ''] = Object.keys(statement);
  if (kind === 'VariableSetStmt') return 'settings';
  if (!STATEMENTS.has(kind)) return 'unknown';
  if (kind === 'TransactionStmt') {
    const { kind: what = 'TRANS_STMT_BEGIN' } = statement.TransactionStmt as { kind?: string };
    return TRANSACTION.has(what) ? 'nothing' : 'unknown';
  }
  const queries = new Set<string>();
  return isHarmless(statement, { ...names, queries }) ? 'nothing' : 'unknown';
}

/** `queries`: what WITH has named, so far. */
interface Known extends Names {
  readonly queries: Set<string>;
}

function isHarmless(node: unknown, known: Known): boolean {
  if (Array.isArray(node)) return node.every((each) => isHarmless(each, known));
  if (node === null || typeof node !== 'object') return true;
  const { withClause } = node as { withClause?: { ctes?: { CommonTableExpr?: { ctename?: string } }[] } };
  for (const { CommonTableExpr } of withClause?.ctes ?? []) known.queries.add(CommonTableExpr?.ctename ?? '');
  return Object.entries(node).every(([name, value]) => {
    if (NEVER.has(name)) return false;
    // FOR UPDATE OF says which of its tables, as the query calls them.
    if (name === 'lockedRels') return true;
    // CALL has its own field for one.
    if ((name === 'FuncCall' || name === 'funccall') && !isKnownFunction(value as Fields, known)) return false;
    if (TABLE_FIELDS.has(name) && !isKnownTable(value as Fields, known)) return false;
    return isHarmless(value, known);
  });
}

/** Where a table is named: in FROM, and as what is written to. */
const TABLE_FIELDS = new Set(['RangeVar', 'relation']);
const CATALOGS = new Set(['pg_catalog', 'information_schema', 'tide']);
/** Of schema `tide`, in which nobody else makes any: what statements about the cluster become. */
const OWN_FUNCTIONS = new Set(['refuse', 'done', 'known']);

function isKnownTable(table: Fields, known: Known): boolean {
  const { schemaname = null, relname } = table as { schemaname?: string | null; relname?: string };
  if (relname === undefined) return false;
  if (schemaname === null ? known.queries.has(relname) || relname.startsWith('pg_') : CATALOGS.has(schemaname))
    return true;
  return known.isDistributed(schemaname, relname);
}

function isKnownFunction({ funcname }: Fields, known: Known): boolean {
  const parts = (funcname as { String?: { sval?: string } }[]).map((part) => part.String?.sval ?? '');
  const name = parts.at(-1) ?? '';
  if (parts.length === 2 && parts[0] === 'tide') return OWN_FUNCTIONS.has(name);
  if (!FUNCTIONS.has(name) || parts.length > 2) return false;
  return parts.length === 2 ? parts[0] === 'pg_catalog' : !known.isUsers(name);
}
