import type { Command } from 'commander';
import type { TableRow } from '../../api/results.ts';
import { humanBytes } from '../../core/units.ts';
import { type CliRun, defineClient, onClient, type WaitFlags, withWait } from '../command.ts';
import { confirm, withYes, type YesFlag } from '../confirm.ts';
import { given, integer } from '../flags.ts';
import type { CliHost } from '../host.ts';
import { columns } from '../output.ts';
import { readTextFile } from '../read-file.ts';
import type { Session } from '../session.ts';
import { finishWork } from '../work.ts';

interface CreateFlags extends WaitFlags {
  partitions?: number;
  replicas?: number;
  distributeBy?: string;
}

/** `tide table …` */
export function addTable(program: Command, run: CliRun): void {
  const table = program.command('table').description('make, list and drop distributed tables');
  addCreate(table, run);
  addList(table, run);
  addDrop(table, run);
}

function addCreate(table: Command, run: CliRun): void {
  const create = withWait(
    defineClient(table, {
      usage: 'create <sql>',
      summary:
        'make a distributed table from a CREATE TABLE statement; - reads it from standard input, @FILE from a file',
      examples: [
        "tide table create 'CREATE TABLE acct (id bigint PRIMARY KEY, balance numeric)'",
        'tide table create @schema/orders.sql --partitions=32 --replicas=2 --distribute-by=customer_id',
        'cat acct.sql | tide table create -',
      ],
    })
      .option('--partitions <n>', 'hash partitions; fixed for the life of the table (default: 16)', integer(1, 4096))
      .option('--replicas <n>', 'replicas of each partition (default: 3, or as many as there are nodes)', integer(1, 9))
      .option('--distribute-by <column>', 'column of the primary key that is hashed (default: its first)'),
  );
  onClient<CreateFlags, [sql: string]>(run, create, async ({ session, flags, args: [source] }) => {
    const { partitions, replicas, distributeBy } = flags;
    const sql = await statement(run.host, source);
    const made = await session.call({ do: 'table-create', sql, ...given({ partitions, replicas, distributeBy }) });
    await finishWork(session, [made.operation], flags.wait);
    return 0;
  });
}

async function statement(host: CliHost, source: string): Promise<string> {
  if (source === '-') return host.readStdin();
  if (!source.startsWith('@')) return source;
  return readTextFile(source.slice(1));
}

function addList(table: Command, run: CliRun): void {
  const ls = defineClient(table, {
    usage: 'ls',
    summary: 'the distributed tables',
    examples: ['tide table ls', 'tide table ls --format=csv'],
  });
  onClient(run, ls, async ({ session }) => {
    const tables = await session.call({ do: 'table-ls' });
    session.show(tables, [
      ...columns<TableRow>('tid', 'schema', 'name', 'state', 'distributeBy', 'partitions', 'replicas', 'rows'),
      ...columns<TableRow>('bytes:bytes', 'measuredAgeMs:age'),
    ]);
    return 0;
  });
}

function addDrop(table: Command, run: CliRun): void {
  const drop = withYes(
    withWait(
      defineClient(table, {
        usage: 'drop <table>',
        summary: 'drop a distributed table with all its partitions and replicas; asks first at a terminal',
        examples: ['tide table drop acct', 'tide table drop sales.orders --yes'],
      }),
    ),
  );
  onClient<WaitFlags & YesFlag, [table: string]>(run, drop, async ({ session, flags, args: [name] }) => {
    const what = await described(session, name);
    if (what !== null && run.host.canAsk && !flags.yes) await confirm(run.host, `Drop ${what}?`, `table ${name} stays`);
    else if (what !== null) run.host.stderr.write(`dropping ${what}\n`);
    const dropped = await session.call({ do: 'table-drop', table: name });
    await finishWork(session, [dropped.operation], flags.wait);
    return 0;
  });
}

/**
 * `acct, about 500000 rows, 72.4 MiB, 3 replicas`; null where there is no such table, which the command
 * itself will say.
 */
async function described(session: Session, name: string): Promise<string | null> {
  const tables = await session.call({ do: 'table-ls' });
  const found = tables.find(
    (t) => [t.name, `${t.schema}.${t.name}`].includes(name) && (t.schema === 'public' || name !== t.name),
  );
  if (!found) return null;
  const { rows, bytes, replicas } = found;
  const size = rows === null || bytes === null ? 'size not known' : `about ${rows} rows, ${humanBytes(bytes)}`;
  return `table ${name}: ${size}, in ${replicas} ${replicas === 1 ? 'replica' : 'replicas'}`;
}
