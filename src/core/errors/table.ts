import { entry } from './entry.ts';

/** Refusals of `tide table create` and of naming tables and partitions. */
export const tableErrors = {
  TABLE_UNKNOWN: entry<{ table: string }>({
    retry: 'never',
    sqlstate: '42P01',
    text: (d) => `table ${d.table} is not a distributed table`,
    hint: () => 'tide table ls lists them; schema-qualify the name where the schema is not public',
  }),
};
