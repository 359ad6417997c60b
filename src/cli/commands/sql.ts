import type { Command } from 'commander';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { readTextFile } from '../read-file.ts';
import type { ClientFlags, Session } from '../session.ts';
import { type SqlAnswer, type SqlConnection, SqlFailure } from '../sql/connection.ts';
import { splitStatements } from '../sql/statements.ts';

interface SqlFlags extends ClientFlags {
  command?: string[];
  file?: string;
}

/**
 * `tide sql`: psql at the node, where there is one and somebody sits there; else pgtide's own small shell.
 */
export function addSql(program: Command, run: CliRun): void {
  const sql = defineClient(program, {
    usage: 'sql',
    summary: 'SQL at the node: psql where it is installed, else a small shell; or the statements that are given',
    examples: [
      'tide sql',
      "tide sql --command='SHOW NODES' --format=json",
      'tide sql --file=schema.sql',
      "echo 'SELECT count(*) FROM acct' | tide sql",
    ],
  })
    .option('-c, --command <sql>', 'statements to execute; may be given more than once', collect)
    .option('-f, --file <file>', 'a file of statements; - is standard input');
  onClient<SqlFlags>(run, sql, async ({ session, flags }) => {
    const given = await statementsOf(session, flags);
    if (given === null && flags.format === undefined) {
      const status = await session.host.runPsql(connectionOf(session.address));
      if (status !== null) return status;
    }
    const connection = await session.host.openSql(session.address, (text) => session.host.stderr.write(`${text}\n`));
    try {
      return given === null ? await converse(session, connection) : await executeAll(session, connection, given);
    } finally {
      await connection.close();
    }
  });
}

const collect = (value: string, before: string[] = []) => [...before, value];

function connectionOf(address: string): string {
  return `postgresql://tide@${address}/tide`;
}

/** Null: somebody types them. */
async function statementsOf({ host }: Session, { command, file }: SqlFlags): Promise<string[] | null> {
  const texts = [...(command ?? [])];
  if (file !== undefined && file !== '-') texts.push(await readTextFile(file));
  if (file === '-' || (texts.length === 0 && !host.canAsk)) texts.push(await host.readStdin());
  if (texts.length === 0) return null;
  return texts.flatMap((text) => {
    const { whole, rest } = splitStatements(text);
    return rest === '' ? whole : [...whole, rest];
  });
}

/** Up to the first that fails. */
async function executeAll(session: Session, connection: SqlConnection, statements: readonly string[]): Promise<number> {
  for (const statement of statements) if (!(await execute(session, connection, statement))) return 1;
  return 0;
}

/** Until `\q`, or the end of what is typed. */
async function converse(session: Session, connection: SqlConnection): Promise<number> {
  const { host } = session;
  host.stderr.write(`pgtide at ${session.address}; a statement ends with a semicolon, \\q ends the session\n`);
  let begun = '';
  host.stderr.write(PROMPT);
  for await (const line of host.readLines()) {
    if (/^\s*(\\q|exit|quit)\s*;?\s*$/.test(line)) break;
    const { whole, rest } = splitStatements(`${begun}${line}\n`);
    for (const statement of whole) await execute(session, connection, statement);
    begun = rest;
    host.stderr.write(begun === '' ? PROMPT : MORE);
  }
  return 0;
}

const NO_COPY = {
  message: 'COPY from or to the client is not done here',
  code: '0A000',
  detail: undefined,
  hint: 'use psql',
};

const PROMPT = 'tide=> ';
const MORE = 'tide-> ';

/** Its data would go past what is shown. */
const COPY = /^\s*copy\b.*\b(from\s+stdin|to\s+stdout)\b/is;

async function execute(session: Session, connection: SqlConnection, statement: string): Promise<boolean> {
  try {
    if (COPY.test(statement)) throw new SqlFailure(NO_COPY);
    for (const answer of await connection.query(statement)) show(session, answer);
    return true;
  } catch (error) {
    if (!(error instanceof SqlFailure)) throw error;
    session.host.stderr.write(failureText(session, error));
    return false;
  }
}

function show(session: Session, { command, rowCount, columns, rows }: SqlAnswer): void {
  if (columns.length === 0) {
    if (command !== null) session.say(rowCount === null ? command : `${command} ${rowCount}`);
    return;
  }
  const shape = columns.map((name, at) => ({ name, value: (row: readonly unknown[]) => cell(row[at]) }));
  const names = distinct(columns);
  const answer = rows.map((row) => Object.fromEntries(names.map((name, at) => [name, row[at] ?? null])));
  session.show(rows, shape, answer);
}

/** JSON takes a name once: `count`, `count (2)`. */
function distinct(names: readonly string[]): string[] {
  const seen = new Map<string, number>();
  return names.map((name) => {
    const times = (seen.get(name) ?? 0) + 1;
    seen.set(name, times);
    return times === 1 ? name : `${name} (${times})`;
  });
}

function cell(value: unknown): string | number | boolean | null {
  if (value === null || value === undefined) return null;
  return typeof value === 'number' || typeof value === 'boolean' ? value : String(value);
}

function failureText({ format }: Session, { message, sqlstate, detail, hint }: SqlFailure): string {
  if (format === 'json') return `${JSON.stringify({ message, sqlstate, detail, hint }, null, 2)}\n`;
  const lines = [`ERROR: ${message}`, ...(detail === null ? [] : [`detail: ${detail}`])];
  return `${[...lines, ...(hint === null ? [] : [`hint: ${hint}`]), `sqlstate: ${sqlstate}`].join('\n')}\n`;
}
