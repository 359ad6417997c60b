import type { Command } from 'commander';
import { type CliRun, define } from '../command.ts';

/** `tide version` */
export function addVersion(program: Command, run: CliRun, version: string): void {
  define(program, { usage: 'version', summary: 'the version of this program', examples: ['tide version'] }).action(
    () => {
      run.host.stdout.write(`pgtide ${version}\n`);
    },
  );
}
