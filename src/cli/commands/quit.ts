import type { Command } from 'commander';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { quitNode } from '../quit.ts';

/** `tide quit`: the node named by `--host` itself drains and ends. */
export function addQuit(program: Command, run: CliRun): void {
  const quit = defineClient(program, {
    usage: 'quit',
    summary: 'drain the node at --host and end its process; it stays a member and can be started again',
    examples: ['tide quit --host=127.0.0.1:26259'],
  });
  onClient(run, quit, async ({ session }) => {
    await quitNode(session, session.address);
    session.say('ok');
    return 0;
  });
}
