import type { Command } from 'commander';
import { tideError } from '../../core/errors.ts';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { given, integer, list } from '../flags.ts';
import { type AbandonFlag, warnOfLocalData, withAbandon } from '../local-data.ts';
import { resolveNodes } from '../nodes.ts';
import { showPlan } from '../work.ts';

interface PlanFlags extends AbandonFlag {
  add?: number;
  remove?: string[];
  rebalance?: true;
}

/** `tide plan`: what a change would move and cost. Exit status 1 where some replica has no target. */
export function addPlan(program: Command, run: CliRun): void {
  const plan = withAbandon(
    defineClient(program, {
      usage: 'plan',
      summary: 'show every move that a change of the cluster would make, with its reason and price; nothing is changed',
      examples: ['tide plan --add=2', 'tide plan --remove=3,4', 'tide plan --rebalance --format=json'],
    }),
  )
    .option('--add <n>', 'nodes that would join', integer(1, 1000))
    .option('--remove <nodes>', 'nodes that would be decommissioned: ids or HOST:PORT, comma-separated', list)
    .option('--rebalance', 'spread over the nodes that are there');
  onClient<PlanFlags>(run, plan, async ({ session, flags: { add, remove, rebalance, abandonLocalTables } }) => {
    if (add === undefined && remove === undefined && rebalance === undefined) throw nothingAsked();
    const nodes = remove === undefined ? undefined : await resolveNodes(session, remove);
    const result = await session.call({ do: 'plan', ...given({ add, remove: nodes, rebalance, abandonLocalTables }) });
    warnOfLocalData(session, result);
    showPlan(session, result);
    return result.blocked.length === 0 ? 0 : 1;
  });
}

function nothingAsked() {
  const problem = 'a plan of what? name --add=N, --remove=IDS or --rebalance';
  return tideError('USAGE', { problem, command: 'tide plan', suggestion: null });
}
