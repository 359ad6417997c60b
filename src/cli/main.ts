import { type Command, CommanderError } from 'commander';
import { type ErrorCode, listOf, messageOf, TideError, tideError } from '../core/errors.ts';
import type { CliRun } from './command.ts';
import type { CliHost } from './host.ts';
import { Interrupted } from './interrupt.ts';
import { withPrintableOutput } from './printable.ts';
import { buildProgram } from './program.ts';

/** Wrong command lines: nobody was asked yet. */
const USAGE_STATUS = 2;
const USAGE_CODES: readonly ErrorCode[] = ['USAGE', 'PIDS_INVALID', 'INSECURE_REQUIRED'];

/**
 * Runs one command line (`argv` without node and script) and resolves with its exit status: 0 done, 1 refused
 * or failed, 2 not understood, 130 interrupted. Never throws; errors are printed to `host.stderr`.
 */
export async function runCli(argv: string[], plain: CliHost): Promise<number> {
  const host = withPrintableOutput(plain);
  const run: CliRun = { host, status: 0 };
  const program = buildProgram(run);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return run.status;
  } catch (error) {
    if (error instanceof Interrupted) {
      host.stderr.write(`${error.message}\n`);
      return error.status;
    }
    if (error instanceof CommanderError && error.code.startsWith('commander.help'))
      return error.exitCode * USAGE_STATUS;
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const known = await asTideError(error, program, argv, host);
    host.stderr.write(wantsJson(argv) ? `${JSON.stringify(known.toBody(), null, 2)}\n` : errorText(known));
    return USAGE_CODES.includes(known.code) ? USAGE_STATUS : 1;
  }
}

async function asTideError(error: unknown, program: Command, argv: string[], host: CliHost): Promise<TideError> {
  if (error instanceof TideError) return error;
  if (!(error instanceof CommanderError)) return tideError('INTERNAL', { why: messageOf(error) }, error);
  const { problem, suggestion } = await usage(error, argv, host);
  return tideError('USAGE', { problem, command: commandPath(program, argv), suggestion });
}

/** Commander writes `error: unknown option '--hots'`, and below it `(Did you mean --host?)`. */
async function usage(error: CommanderError, argv: string[], host: CliHost) {
  const [first = '', ...more] = error.message.split('\n');
  const withValue = /^error: unknown option '((--[^=]+)=.*)'$/.exec(first);
  const message = withValue ? await withoutValue(argv, withValue[1] ?? '', withValue[2] ?? '', host) : error.message;
  const suggestion = /Did you mean (?:one of )?(.*)\?\)/.exec(withValue ? message : more.join(' '))?.[1] ?? null;
  return { problem: (message.split('\n')[0] ?? '').replace(/^error: /, ''), suggestion };
}

/** Commander compares `--hots=value` as a whole and finds nothing alike; without the value it does. */
async function withoutValue(argv: string[], word: string, flag: string, host: CliHost): Promise<string> {
  const program = buildProgram({ host, status: 0 });
  const cut = argv.slice(0, argv.indexOf(word));
  return program.parseAsync([...cut, flag], { from: 'user' }).then(
    () => '',
    (error: unknown) => messageOf(error),
  );
}

/** `tide node status`: the words of the command line that name a command. */
function commandPath(program: Command, argv: string[]): string {
  const path = [program.name()];
  let at = program;
  for (const word of argv) {
    const next = at.commands.find((command) => command.name() === word);
    if (!next) break;
    path.push(word);
    at = next;
  }
  return path.join(' ');
}

function wantsJson(argv: string[]): boolean {
  return argv.includes('--format=json') || argv[argv.indexOf('--format') + 1] === 'json';
}

/** Lines of a list that are shown to eyes. */
const LINES_MAX = 20;

function errorText(error: TideError): string {
  const list = listOf(error).map((line) => line.replace(/\s+/g, ' '));
  const more = list.length - LINES_MAX;
  const lines = list.slice(0, LINES_MAX).map((line) => `  ${line}\n`);
  if (more > 0) lines.push(`  … and ${more} more: --format=json\n`);
  return `ERROR: ${error.message}\nhint: ${error.hint}\ncode: ${error.code}\n${lines.join('')}`;
}
