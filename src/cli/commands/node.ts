import type { Command } from 'commander';
import type { NodeStatusRow } from '../../api/results.ts';
import { TideError, tideError } from '../../core/errors.ts';
import { few } from '../../core/lists.ts';
import { type CliRun, defineClient, onClient, type WaitFlags, withWait } from '../command.ts';
import { confirm, withYes, type YesFlag } from '../confirm.ts';
import { given } from '../flags.ts';
import { type AbandonFlag, warnOfLocalData, withAbandon } from '../local-data.ts';
import { resolveNode, resolveNodes } from '../nodes.ts';
import { type Column, columns } from '../output.ts';
import type { Session } from '../session.ts';
import { warnOfShortages } from '../shortages.ts';
import { finishStarted, finishWithOk } from '../work.ts';
import { addDecommission, memberColumns } from './decommission.ts';

interface StatusFlags {
  decommission?: true;
  ranges?: true;
  stats?: true;
  all?: true;
}

type Row = NodeStatusRow;
const base = [
  ...columns<Row>('id', 'address', 'sqlAddress', 'build', 'startedAt:time', 'updatedAt:time', 'locality', 'startMode'),
  ...columns<Row>('isAvailable', 'isLive'),
];
const ranges = columns<Row>('leaders', 'replicas', 'partitionsUnavailable', 'partitionsUnderReplicated');
const stats = columns<Row>('bytes:bytes', 'diskTotalBytes:bytes', 'diskFreeBytes:bytes', 'disk', 'measuredAgeMs:age');
const decommission = columns<Row>('replicas', 'isDecommissioning', 'isDraining');
const rest = columns<Row>('state', 'condition', 'isManager', 'httpAddress', 'attrs', 'replication');

/** `tide node …`: verbs, columns and texts as KWDB has them. */
export function addNode(program: Command, run: CliRun): void {
  const node = program.command('node').description('look at nodes, take them out of service and back');
  addStatus(node, run);
  addDecommission(node, run);
  addRecommission(node, run);
  addDrain(node, run);
  addOutage(node, run);
}

function addStatus(node: Command, run: CliRun): void {
  const status = defineClient(node, {
    usage: 'status [id]',
    summary: 'the nodes of the cluster; without flags those that are gone for good are left out',
    examples: ['tide node status', 'tide node status 3 --all', 'tide node status --decommission --format=json'],
  })
    .option('--decommission', 'with replicas left, is_decommissioning, is_draining; decommissioned nodes too')
    .option('--ranges', 'with leaders, replicas, partitions unavailable and short of replicas')
    .option('--stats', 'with bytes and disk')
    .option('--all', 'with everything');
  onClient<StatusFlags, [id?: string]>(run, status, async ({ session, flags, args: [name] }) => {
    const nodes = await session.call({ do: 'node-status' });
    const rows = name === undefined ? visible(nodes, flags) : await only(session, nodes, name);
    session.show(rows, statusColumns(flags));
    await warnOfShortages(session, nodes);
    return 0;
  });
}

/** The columns of the asked groups, each once. */
function statusColumns(flags: StatusFlags): Column<Row>[] {
  const all = [
    ...base,
    ...(flags.ranges || flags.all ? ranges : []),
    ...(flags.stats || flags.all ? stats : []),
    ...(flags.decommission || flags.all ? decommission : []),
    ...(flags.all ? rest : []),
  ];
  return all.filter((column, at) => all.findIndex((other) => other.name === column.name) === at);
}

/** KWDB's rule: a node that was decommissioned and has gone is history, shown only when asked for. */
function visible(nodes: readonly Row[], flags: StatusFlags): Row[] {
  const history = flags.decommission || flags.all;
  return nodes.filter((node) => history || node.isLive || node.state !== 'decommissioned');
}

async function only(session: Session, nodes: readonly Row[], name: string): Promise<Row[]> {
  const id = await resolveNode(session, name);
  const found = nodes.filter((node) => node.id === id);
  if (found.length > 0) return found;
  throw tideError('NODE_UNKNOWN', { node: name, known: few(nodes.map((each) => `n${each.id}`)) });
}

function addRecommission(node: Command, run: CliRun): void {
  const recommission = withWait(
    defineClient(node, {
      usage: 'recommission <ids...>',
      summary: 'cancel a decommission: the nodes take replicas again and get back what they had',
      examples: ['tide node recommission 3', 'tide node recommission 3 4'],
    }),
  );
  onClient<WaitFlags>(run, recommission, async ({ session, flags, args }) => {
    const ids = await resolveNodes(session, args);
    const started = await session.call({ do: 'node-recommission', nodes: ids });
    // The operation is the decommission, which this cancels.
    await finishStarted(session, started, flags.wait, 'cancelled');
    const nodes = await session.call({ do: 'node-status' });
    if (session.format !== 'json')
      session.show(
        nodes.filter((each) => ids.includes(each.id)),
        memberColumns,
      );
    return 0;
  });
}

/** For nodes that are down: the operator knows what no machine can see. */
function addOutage(node: Command, run: CliRun): void {
  const texts = {
    offline: 'say that a silent node is down or cut off: its followers lead, and it stays out until it is recovered',
    recover: 'take a node back that is offline: it is cleaned up when it is there, then serves',
  };
  for (const verb of ['offline', 'recover'] as const) {
    const command = withWait(
      defineClient(node, { usage: `${verb} <id>`, summary: texts[verb], examples: [`tide node ${verb} 3`] }),
    );
    onClient<WaitFlags, [id: string]>(run, command, async ({ session, flags, args: [name] }) => {
      const started = await session.call({ do: `node-${verb}`, node: await resolveNode(session, name) });
      return finishWithOk(session, started, flags.wait, async () =>
        warnOfShortages(session, await session.call({ do: 'node-status' })),
      );
    });
  }
  addDrop(node, run);
}

type DropFlags = WaitFlags & YesFlag & AbandonFlag & { acceptDataLoss?: string[] };

function addDrop(node: Command, run: CliRun): void {
  const drop = withYes(
    withAbandon(
      withWait(
        defineClient(node, {
          usage: 'drop <id>',
          summary:
            'remove a node that is offline and will never return; one that was heard a moment ago is asked about',
          examples: ['tide node drop 3', 'tide node drop 3 --yes', 'tide node drop 3 --accept-data-loss=acct/3,acct/5'],
        }),
      ),
    ),
  ).option('--accept-data-loss <table/pid,...>', 'partitions whose last copy may go; they begin anew, empty', (list) =>
    list.split(','),
  );
  onClient<DropFlags, [id: string]>(run, drop, async ({ session, flags, args }) => {
    const { acceptDataLoss = [], abandonLocalTables, yes = false } = flags;
    const id = await resolveNode(session, args[0]);
    const ask = (sure: boolean) =>
      session.call({ do: 'node-drop', node: id, acceptDataLoss, sure, ...given({ abandonLocalTables }) });
    const started = await ask(yes).catch(async (error: unknown) => {
      if (!(error instanceof TideError) || error.code !== 'NODE_JUST_SEEN' || !run.host.canAsk) throw error;
      await confirm(run.host, `${error.message}. Drop node ${id}?`, `node ${id} stays`);
      return ask(true);
    });
    warnOfLocalData(session, started);
    return finishWithOk(session, started, flags.wait);
  });
}

function addDrain(node: Command, run: CliRun): void {
  const drain = withWait(
    defineClient(node, {
      usage: 'drain <id>',
      summary: 'prepare a node for a planned stop: others lead what it led, and nobody waits for it',
      examples: ['tide node drain 2', 'tide node drain 2 --allow-single-replica'],
    }),
  ).option('--allow-single-replica', 'make no copies for the time: what nobody else holds, or follows, is left so');
  onClient<WaitFlags & { allowSingleReplica?: true }, [id: string]>(run, drain, async ({ session, flags, args }) => {
    const { allowSingleReplica = false } = flags;
    const id = await resolveNode(session, args[0]);
    const started = await session.call({ do: 'node-drain', node: id, allowSingleReplica });
    return finishWithOk(session, started, flags.wait);
  });
  const undrain = withWait(
    defineClient(node, {
      usage: 'undrain <id>',
      summary: 'give a drained node back what it led; copies that were made for the time go',
      examples: ['tide node undrain 2'],
    }),
  );
  onClient<WaitFlags, [id: string]>(run, undrain, async ({ session, flags, args: [name] }) => {
    const started = await session.call({ do: 'node-undrain', node: await resolveNode(session, name) });
    return finishWithOk(session, started, flags.wait);
  });
}
