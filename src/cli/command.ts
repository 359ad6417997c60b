import { type Command, Option } from 'commander';
import { positive } from './flags.ts';
import type { CliHost } from './host.ts';
import { FORMATS } from './output.ts';
import { type ClientFlags, Session } from './session.ts';

/** One run of the CLI: the outside world, and the exit status the command ends with. */
export interface CliRun {
  host: CliHost;
  status: number;
}

export interface CommandText {
  /** Name and arguments, commander's way: `migrate <table> <pids> <src> <dst>`. */
  usage: string;
  summary: string;
  /** Command lines, without the prompt. */
  examples: string[];
}

/** Adds a command; there is none without examples. */
export function define(parent: Command, text: CommandText): Command {
  const examples = text.examples.map((line) => `  $ ${line}`).join('\n');
  return parent.command(text.usage).description(text.summary).addHelpText('after', `\nExamples:\n${examples}`);
}

/** Adds a command that asks a running cluster, with the flags that all of those take. */
export function defineClient(parent: Command, text: CommandText): Command {
  return define(parent, text)
    .option('--host <host:port>', 'any live node of the cluster (default: $TIDE_HOST, then 127.0.0.1:26257)')
    .option('--timeout <seconds>', 'how long one answer may take', positive, 30)
    .addOption(
      new Option('--format <format>', 'how results are printed (default: table on a terminal, else tsv)').choices(
        FORMATS,
      ),
    );
}

export interface WaitFlags {
  wait: 'all' | 'none';
}

/** Adds `--wait` to a command that starts operations. */
export function withWait(command: Command): Command {
  return command.addOption(
    new Option('--wait <what>', 'all: until the work is done; none: return once it is journaled')
      .choices(['all', 'none'])
      .default('all'),
  );
}

export interface Invocation<Flags, Args extends readonly (string | undefined)[]> {
  session: Session;
  flags: Flags;
  args: Args;
}

/** What a client command does; it gives back an exit status, or nothing for 0. */
export function onClient<Flags, Args extends readonly (string | undefined)[] = string[]>(
  run: CliRun,
  command: Command,
  act: (invocation: Invocation<Flags, Args>) => Promise<number | undefined>,
): void {
  command.action(async () => {
    const flags = command.opts<ClientFlags & Flags>();
    const session = new Session(run.host, flags);
    run.status = (await act({ session, flags, args: command.args as readonly string[] as Args })) ?? 0;
  });
}
