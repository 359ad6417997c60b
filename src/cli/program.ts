import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import type { CliRun } from './command.ts';
import { addDemo } from './commands/demo.ts';
import { addDoctor } from './commands/doctor.ts';
import { addEvents } from './commands/events.ts';
import { addManager, addMeta } from './commands/meta.ts';
import { addNode } from './commands/node.ts';
import { addOp } from './commands/op.ts';
import { addPartition } from './commands/partition.ts';
import { addPlan } from './commands/plan.ts';
import { addQuit } from './commands/quit.ts';
import { addScale } from './commands/scale.ts';
import { addSettings } from './commands/settings.ts';
import { addSql } from './commands/sql.ts';
import { addStart } from './commands/start.ts';
import { addTable } from './commands/table.ts';
import { addVersion } from './commands/version.ts';

/** The whole command line; parsing it runs the command and leaves its exit status in `run`. */
export function buildProgram(run: CliRun): Command {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const program = new Command('tide')
    .description(
      'pgtide makes plain PostgreSQL elastic: nodes join and leave while applications keep reading and writing.',
    )
    .version(`pgtide ${version}`)
    .configureOutput({
      writeOut: (text) => run.host.stdout.write(text),
      writeErr: (text) => run.host.stderr.write(text),
      // runCli prints errors, in the form of all others.
      outputError: () => {},
    })
    .exitOverride();
  addStart(program, run);
  addManager(program, run);
  addMeta(program, run);
  addQuit(program, run);
  addNode(program, run);
  addScale(program, run);
  addPlan(program, run);
  addTable(program, run);
  addPartition(program, run);
  addOp(program, run);
  addEvents(program, run);
  addSettings(program, run);
  addSql(program, run);
  addDoctor(program, run);
  addDemo(program, run);
  addVersion(program, run, version);
  return program;
}
