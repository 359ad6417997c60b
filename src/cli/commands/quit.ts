import type { Command } from 'commander';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { quitNode } from '../quit.ts';

/** `tide quit`: the node named by `--host` itself ends. */
export function addQuit(program: Command, run: CliRun): void {
  const quit = defineClient(program, {
    usage: 'quit',
    summary:
      'end the node at --host and its PostgreSQL; it stays a member and can be started again. tide node drain first moves its leaders away',
    examples: ['tide quit --host=127.0.0.1:26259'],
  });
  onClient(run, quit, async ({ session }) => {
    await quitNode(session, session.address);
    session.say('ok');
    return 0;
  });
}
