import type { Command } from 'commander';
import { parsePid, parsePids } from '../../api/pids.ts';
import type { PartitionRow } from '../../api/results.ts';
import { tideError } from '../../core/errors.ts';
import { type CliRun, defineClient, onClient, type WaitFlags, withWait } from '../command.ts';
import { given } from '../flags.ts';
import { resolveNode, resolveNodes } from '../nodes.ts';
import { columns } from '../output.ts';
import type { Session } from '../session.ts';
import { finishWithOk, finishWork } from '../work.ts';

const PIDS = 'PIDS are 3, 1,3,5 or 1-5; nodes are ids or HOST:PORT';

/** `tide partition …`: OpenMLDB's verbs; a leader can be migrated too. */
export function addPartition(program: Command, run: CliRun): void {
  const partition = program.command('partition').description('look at partitions and move them by hand');
  addList(partition, run);
  addMigrate(partition, run);
  addChangeLeader(partition, run);
  addRecover(partition, run);
  addReplicaCommands(partition, run);
}

function addList(partition: Command, run: CliRun): void {
  const ls = defineClient(partition, {
    usage: 'ls [table]',
    summary: 'every replica of every partition, with its role, position and size',
    examples: ['tide partition ls', 'tide partition ls acct --format=tsv'],
  });
  onClient<object, [table?: string]>(run, ls, async ({ session, args: [table] }) => {
    const replicas = await session.call({ do: 'partition-ls', ...given({ table }) });
    session.show(replicas, [
      ...columns<PartitionRow>(
        'table',
        'tid',
        'pid',
        'node',
        'endpoint',
        'role',
        'state',
        'isAlive',
        'durability',
        'epoch',
        'offset',
      ),
      ...columns<PartitionRow>('lagBytes:bytes', 'rows', 'bytes:bytes', 'measuredAgeMs:age', 'why'),
    ]);
    return 0;
  });
}

function addMigrate(partition: Command, run: CliRun): void {
  const migrate = withWait(
    defineClient(partition, {
      usage: 'migrate <table> <pids> <src> <dst>',
      summary: `move replicas from one node to another; leadership goes along. ${PIDS}`,
      examples: [
        'tide partition migrate acct 3 1 4',
        'tide partition migrate acct 1-5 127.0.0.1:26257 127.0.0.1:26260',
      ],
    }),
  );
  type Args = [table: string, pids: string, src: string, dst: string];
  onClient<WaitFlags, Args>(run, migrate, async ({ session, flags, args: [table, pidGroup, src, dst] }) => {
    const pids = parsePids(pidGroup);
    const [from = 0, to = 0] = await resolveNodes(session, [src, dst]);
    const { operations } = await session.call({ do: 'partition-migrate', table, pids, from, to });
    await finishWork(session, operations, flags.wait);
    return 0;
  });
}

function addChangeLeader(partition: Command, run: CliRun): void {
  const change = withWait(
    defineClient(partition, {
      usage: 'change-leader <table> <pid> [node]',
      summary: 'make a follower the leader; without a node, or with auto, the one that suits best',
      examples: ['tide partition change-leader acct 3', 'tide partition change-leader acct 3 2'],
    }),
  );
  type Args = [table: string, pid: string, node?: string];
  onClient<WaitFlags, Args>(run, change, async ({ session, flags, args: [table, pidText, node = 'auto'] }) => {
    const pid = parsePid(pidText);
    const to = node === 'auto' ? node : await resolveNode(session, node);
    const { operations } = await session.call({ do: 'partition-change-leader', table, pid, to });
    await finishWork(session, operations, flags.wait);
    return 0;
  });
}

function addRecover(partition: Command, run: CliRun): void {
  const recover = withWait(
    defineClient(partition, {
      usage: 'recover <table> <pid> <node>',
      summary: 'let a follower lead in place of a node that is out of service, with the rows that it has',
      examples: ['tide partition recover acct 3 2', 'tide partition recover acct 3 2 --accept-data-loss'],
    }),
  ).option('--accept-data-loss', 'even where writes that the old leader acknowledged may be missing there');
  type Args = [table: string, pid: string, node: string];
  type Flags = WaitFlags & { acceptDataLoss?: boolean };
  onClient<Flags, Args>(run, recover, async ({ session, flags, args: [table, pid, name] }) => {
    const started = await session.call({
      do: 'partition-recover',
      table,
      pid: parsePid(pid),
      node: await resolveNode(session, name),
      acceptDataLoss: flags.acceptDataLoss === true,
    });
    return finishWithOk(session, started, flags.wait, () => requireLed(session, table, parsePid(pid)));
  });
}

/**
 * The failover takes its choice when everybody who is in the way has ended; the node may have gone by then.
 */
async function requireLed(session: Session, table: string, pid: number): Promise<void> {
  const rows = await session.call({ do: 'partition-ls', table });
  const leader = rows.find((p) => p.pid === pid && p.role === 'leader');
  if (leader && !leader.isAlive)
    throw tideError('PARTITION_NOT_LED', { partition: `${table} ${pid}`, leader: leader.node });
}

function addReplicaCommands(partition: Command, run: CliRun): void {
  const texts = {
    'add-replica': `copy partitions to one more node. ${PIDS}`,
    'del-replica': `remove replicas from a node, which must not lead them. ${PIDS}`,
  };
  for (const verb of ['add-replica', 'del-replica'] as const) {
    const command = withWait(
      defineClient(partition, {
        usage: `${verb} <table> <pids> <node>`,
        summary: texts[verb],
        examples: [`tide partition ${verb} acct 3 4`, `tide partition ${verb} acct 1,3,5 127.0.0.1:26260 --wait=none`],
      }),
    );
    type Args = [table: string, pids: string, node: string];
    onClient<WaitFlags, Args>(run, command, async ({ session, flags, args: [table, pidGroup, name] }) => {
      const pids = parsePids(pidGroup);
      const node = await resolveNode(session, name);
      const { operations } = await session.call({ do: `partition-${verb}`, table, pids, node });
      await finishWork(session, operations, flags.wait);
      return 0;
    });
  }
}
