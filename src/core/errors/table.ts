import { entry } from './entry.ts';

/** Refusals of `tide table create` and of naming tables and partitions. */
export const tableErrors = {
  TABLE_UNKNOWN: entry<{ table: string }>({
    retry: 'never',
    sqlstate: '42P01',
    text: (d) => `table ${d.table} is not a distributed table`,
    hint: () => 'tide table ls lists them; schema-qualify the name where the schema is not public',
  }),
  TABLE_EXISTS: entry<{ why: string }>({
    retry: 'never',
    sqlstate: '42P07',
    text: (d) => d.why,
    hint: () => 'choose another name, or drop the table first',
  }),
  TABLE_NOT_READY: entry<{ table: string; state: string }>({
    retry: 'later',
    sqlstate: '55000',
    text: (d) => `table ${d.table} is ${d.state}`,
    hint: () => 'tide op ls shows the operation that works on it',
  }),
  TABLE_UNSUPPORTED: entry<{ what: string; why: string }>({
    retry: 'never',
    sqlstate: '0A000',
    text: (d) => `${d.what} is not supported in a distributed table: ${d.why}`,
    hint: () => 'docs/operations.md, "What a distributed table can have", lists what is',
  }),
  SQL_REFUSED: entry<{ why: string; sqlstate: string; statement: string }>({
    retry: 'never',
    sqlstate: '42601',
    text: (d) => `PostgreSQL refuses the statement (${d.sqlstate}): ${d.why}`,
    hint: (d) => `mend the statement, which begins: ${d.statement}`,
  }),
  NO_PRIMARY_KEY: entry<{ table: string }>({
    retry: 'never',
    sqlstate: '42P16',
    text: (d) => `table ${d.table} has no primary key`,
    hint: () => 'replication has to name each row: add PRIMARY KEY (…) with the distribution column in it',
  }),
  KEY_COLUMN_UNKNOWN: entry<{ table: string; column: string }>({
    retry: 'never',
    sqlstate: '42703',
    text: (d) => `table ${d.table} has no column ${d.column} to distribute by`,
    hint: () => 'name a column of the primary key with --distribute-by',
  }),
  KEY_NOT_IN_PRIMARY_KEY: entry<{ table: string; column: string; primaryKey: string }>({
    retry: 'never',
    sqlstate: '42P16',
    text: (d) =>
      `column ${d.column}, by which ${d.table} is to be distributed, is not in its primary key (${d.primaryKey})`,
    hint: () => 'uniqueness is kept inside each partition: add the column to the primary key, or distribute by another',
  }),
  UNIQUE_WITHOUT_KEY: entry<{ table: string; column: string; index: string }>({
    retry: 'never',
    sqlstate: '42P16',
    text: (d) => `a unique key of ${d.table} (${d.index}) does not contain the distribution column ${d.column}`,
    hint: () => 'uniqueness is kept inside each partition: add the column to the unique key',
  }),
  KEY_NOT_HASHABLE: entry<{ column: string; type: string; why: string }>({
    retry: 'never',
    sqlstate: '42704',
    text: (d) => `column ${d.column} of type ${d.type} cannot be hashed: ${d.why}`,
    hint: () => 'distribute by a column whose type has a hash operator class',
  }),
};
