import type { Command } from 'commander';
import { type CliRun, defineClient, onClient, type WaitFlags, withWait } from '../command.ts';
import { warnOfLocalData } from '../local-data.ts';
import { resolveEndpoints } from '../nodes.ts';
import { quitNode } from '../quit.ts';
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
    const { dryRun = false, checks, abandonLocalTables = false } = flags;
    const started = await session.call({ do: 'scale-in', endpoints, dryRun, checks, abandonLocalTables });
    warnOfLocalData(session, started);
    await finishStarted(session, started, 'all');
    if (dryRun) return 0;
    // The node that answers us goes last: the others need nobody, but we need it.
    for (const endpoint of endpoints.toSorted(
      (a, b) => Number(a === session.address) - Number(b === session.address),
    )) {
      await quitNode(session, endpoint);
      session.say(`${endpoint} has no data and is stopped`);
    }
    return 0;
  });
}
