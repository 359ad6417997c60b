import type { Command } from 'commander';
import { tideError } from '../core/errors.ts';
import type { CliHost } from './host.ts';

export interface YesFlag {
  yes?: true;
}

/** Adds `--yes` to a command that asks before it destroys something. */
export function withYes(command: Command): Command {
  return command.option('--yes', 'do not ask');
}

/** Asks whoever sits at the terminal. Throws NOT_CONFIRMED for any answer but y and yes. */
export async function confirm(host: CliHost, question: string, what: string): Promise<void> {
  host.stderr.write(`${question} [y/N] `);
  const answer = await host.readLine();
  if (!/^\s*y(es)?\s*$/i.test(answer)) throw tideError('NOT_CONFIRMED', { what });
}
