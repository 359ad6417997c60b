import type { Command } from 'commander';
import type { DemoOptions } from '../../api/start-options.ts';
import { type CliRun, define } from '../command.ts';
import { positive } from '../flags.ts';

/** `tide demo`: without a terminal there is nobody to press Ctrl-C, so it always ends there. */
export function addDemo(program: Command, run: CliRun): void {
  define(program, {
    usage: 'demo',
    summary: 'a cluster on this machine that grows and shrinks under traffic, with the proof that nothing was lost',
    examples: ['tide demo', 'tide demo --exit --report=result.json', 'tide demo --rows=20000 --seconds=60'],
  })
    .option('--exit', 'stop everything after the proof; exit status 0 only if every proof holds')
    .option('--report <file>', 'write the result as JSON')
    .option('--rows <n>', 'how many cities to load (default: all of them)', positive)
    .option('--seconds <n>', 'how long the traffic lasts at least', positive)
    .action(async ({ exit, ...rest }: Partial<DemoOptions>) => {
      const ends = exit === true || run.host.stdout.isTTY !== true;
      run.status = await run.host.runDemo({ exit: ends, ...rest });
    });
}
