import type { Command } from 'commander';
import type { StartedResult } from '../../api/results.ts';
import { TideError } from '../../core/errors.ts';
import { type CliRun, defineClient, onClient, type WaitFlags, withWait } from '../command.ts';
import { given } from '../flags.ts';
import { warnOfLocalData } from '../local-data.ts';
import { resolveEndpoints } from '../nodes.ts';
import { awaitGone, quitNode } from '../quit.ts';
import type { Session } from '../session.ts';
import { finishStarted } from '../work.ts';
import { type ChecksFlags, withChecks } from './decommission.ts';

/** `tide scale out` and `tide scale in`: the whole job in one command, as OpenMLDB's tool names it. */
export function addScale(program: Command, run: CliRun): void {
  const scale = program.command('scale').description('spread data over new nodes; take nodes out and stop them');
  addOut(scale, run);
  addIn(scale, run);
}

function addOut(scale: Command, run: CliRun): void {
  const out = withWait(
    defineClient(scale, {
      usage: 'out',
      summary: 'spread replicas and leaders over all nodes, the new ones included',
      examples: ['tide scale out --dry-run', 'tide scale out'],
    }).option('--dry-run', 'show the plan and change nothing'),
  );
  onClient<{ dryRun?: true } & WaitFlags>(run, out, async ({ session, flags }) => {
    const started = await session.call({ do: 'scale-out', dryRun: flags.dryRun ?? false });
    await finishStarted(session, started, flags.wait);
    return 0;
  });
}

function addIn(scale: Command, run: CliRun): void {
  const into = withChecks(
    defineClient(scale, {
      usage: 'in <endpoints...>',
      summary: 'decommission nodes, wait until they are empty, and stop them',
      examples: ['tide scale in 127.0.0.1:26260 --dry-run', 'tide scale in 127.0.0.1:26260 127.0.0.1:26261'],
    }),
  );
  onClient<ChecksFlags>(run, into, async ({ session, flags, args }) => {
    const endpoints = await resolveEndpoints(session, args);
    const { dryRun = false, checks, abandonLocalTables } = flags;
    const ask = () => session.call({ do: 'scale-in', endpoints, dryRun, checks, ...given({ abandonLocalTables }) });
    const started = await ask();
    warnOfLocalData(session, started);
    const isOut = started.operation === null && !dryRun;
    if (!isOut) await finishStarted(session, started, 'all');
    if (dryRun) return 0;
    // All have left now; what their clients have written meanwhile is looked at once more.
    const { out = [] } = isOut ? started : await ask();
    if (isOut && session.format === 'json') session.show([], [], started);
    await stopAll(session, out);
    return 0;
  });
}

type Out = NonNullable<StartedResult['out']>;

/** The node that answers us goes last: the others need nobody, but we need it. */
async function stopAll(session: Session, out: Out): Promise<void> {
  const { clusterId } = await session.whoAmI(session.address);
  const isOurs = ({ address }: Out[number]) => Number(address === session.address);
  for (const node of out.toSorted((a, b) => isOurs(a) - isOurs(b))) await stop(session, node, clusterId);
}

/** Its address may be somebody else's by now: only the node itself is stopped. */
async function stop(session: Session, { node, address, httpAddress }: Out[number], clusterId: string): Promise<void> {
  const there = await session.whoAmI(address).catch((error: unknown) => {
    if (error instanceof TideError && error.code === 'UNREACHABLE' && error.details.refused === true) return null;
    throw error;
  });
  if (there && (there.nodeId !== node || there.clusterId !== clusterId)) {
    session.say(`${address} has no data and does not run: another node is there now`);
  } else if (there) {
    await quitNode(session, address);
    session.say(`${address} has no data and is stopped`);
  } else {
    // It takes no more connections from when it begins to end, but its HTTP port does until it has.
    const waited = await awaitGone(session, httpAddress);
    session.say(`${address} has no data and ${waited ? 'is stopped' : 'does not run'}`);
  }
}
