import { type Command, CommanderError } from 'commander';
import { type ErrorCode, messageOf, TideError, tideError } from '../core/errors.ts';
import type { CliRun } from './command.ts';
import type { CliHost } from './host.ts';
import { Interrupted } from './interrupt.ts';
import { buildProgram } from './program.ts';

/** Wrong command lines: nobody was asked yet. */
const USAGE_STATUS = 2;
const USAGE_CODES: readonly ErrorCode[] = ['USAGE', 'PIDS_INVALID', 'INSECURE_REQUIRED'];

/**
 * Runs one command line (`argv` without node and script) and resolves with its exit status: 0 done, 1 refused or failed,
 * 2 not understood, 130 interrupted. Never throws; errors are printed to `host.stderr`.
 */
export async function runCli(argv: string[], host: CliHost): Promise<number> {
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
    const known = asTideError(error, program, argv);
    host.stderr.write(wantsJson(argv) ? `${JSON.stringify(known.toBody(), null, 2)}\n` : errorText(known));
    return USAGE_CODES.includes(known.code) ? USAGE_STATUS : 1;
  }
}

function asTideError(error: unknown, program: Command, argv: string[]): TideError {
  if (error instanceof TideError) return error;
  if (error instanceof CommanderError) return usageError(error, program, argv);
  return tideError('INTERNAL', { why: messageOf(error) }, error);
}

/** Commander writes `error: unknown option '--hots'`, and below it `(Did you mean --host?)`. */
function usageError(error: CommanderError, program: Command, argv: string[]): TideError {
  const [first = '', ...more] = error.message.split('\n');
  const suggestion = /Did you mean (?:one of )?(.*)\?\)/.exec(more.join(' '))?.[1] ?? null;
  const problem = first.replace(/^error: /, '');
  return tideError('USAGE', { problem, command: commandPath(program, argv), suggestion });
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

function errorText(error: TideError): string {
  return `ERROR: ${error.message}\nhint: ${error.hint}\ncode: ${error.code}\n`;
}
