import type { Command } from 'commander';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { resolveNode } from '../nodes.ts';

/** `tide meta …`: the embedded meta store and the manager that runs where it lies. */
export function addMeta(program: Command, run: CliRun): void {
  const meta = program.command('meta').description('where the cluster keeps its facts and who manages it');
  const move = defineClient(meta, {
    usage: 'move <node>',
    summary: 'hand the embedded meta store and the manager to another node; operations go on there',
    examples: ['tide meta move 2', 'tide meta move 127.0.0.1:26258'],
  });
  onClient<object, [node: string]>(run, move, async ({ session, args: [name] }) => {
    const node = await resolveNode(session, name);
    const home = await session.call({ do: 'meta-move', node });
    session.say(`node ${home.node} at ${home.address} manages the cluster now`);
    return 0;
  });
}
