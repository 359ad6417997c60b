import type { Command } from 'commander';
import type { ManagerRow } from '../../api/results.ts';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { confirm, withYes, type YesFlag } from '../confirm.ts';
import { resolveNode } from '../nodes.ts';
import { columns } from '../output.ts';
import type { Session } from '../session.ts';

/** `tide meta …`: where the cluster's facts are. */
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
    tell(session, `node ${home.node} at ${home.address} manages the cluster now`, home);
    return 0;
  });
  const migrate = withYes(
    defineClient(meta, {
      usage: 'migrate',
      summary:
        'take the facts of a running cluster from the embedded meta store into etcd; any node may manage it then',
      examples: [
        'tide meta migrate --to=etcd://10.0.0.1,10.0.0.2,10.0.0.3',
        'tide meta migrate --to=etcd://10.0.0.1/prod',
      ],
    }),
  ).requiredOption('--to <url>', 'etcd://HOST:PORT,…[/prefix]; nothing may be there yet');
  onClient<{ to: string } & YesFlag>(run, migrate, async ({ session, flags }) => {
    const question = `There is no way back from etcd into a file. Take the meta store to ${flags.to}?`;
    if (run.host.canAsk && !flags.yes) await confirm(run.host, question, 'the meta store stays where it is');
    const place = await session.call({ do: 'meta-migrate', to: flags.to });
    tell(session, `the meta store is in ${place.meta} now; tide manager ls shows who manages`, place);
    return 0;
  });
}

/** A sentence for people; a program gets the answer. */
function tell(session: Session, text: string, answer: object): void {
  if (session.format === 'json') session.show([], [], answer);
  session.say(text);
}

/** `tide manager …`: who runs the operations, and who could. */
export function addManager(program: Command, run: CliRun): void {
  const manager = program.command('manager').description('who manages the cluster, and who could take over');
  const list = defineClient(manager, {
    usage: 'ls',
    summary: 'the node that manages, and those that would go on if it died',
    examples: ['tide manager ls', 'tide manager ls --format=json'],
  });
  onClient<object>(run, list, async ({ session }) => {
    const { meta: url, managers } = await session.call({ do: 'manager-ls' });
    session.show(managers, columns<ManagerRow>('endpoint', 'node', 'role', 'term'));
    for (const text of shortOfManagers(url, managers)) session.warn(text);
    return 0;
  });
}

function shortOfManagers(url: string | null, managers: readonly ManagerRow[]): string[] {
  const [leader] = managers.filter((m) => m.role === 'leader');
  const standbys = managers.filter((m) => m.role === 'standby');
  if (!leader || standbys.length > 1) return [];
  const [only] = standbys;
  if (only)
    return [`only node ${only.node} could take over from node ${leader.node}: start more nodes that reach etcd`];
  const why =
    url === null
      ? 'the meta store is a file there (tide meta migrate takes it into etcd)'
      : 'no other node is alive, reaches etcd and knows the format of what is there';
  return [`nobody could take over from node ${leader.node}: ${why}`];
}
