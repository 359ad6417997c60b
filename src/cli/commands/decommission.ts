import { type Command, Option } from 'commander';
import type { NodeStatusRow } from '../../api/results.ts';
import { type CliRun, defineClient, onClient, type WaitFlags, withWait } from '../command.ts';
import type { Display } from '../display.ts';
import { given } from '../flags.ts';
import { type AbandonFlag, warnOfLocalData, withAbandon } from '../local-data.ts';
import { resolveNodes } from '../nodes.ts';
import { columns } from '../output.ts';
import type { Session } from '../session.ts';
import { waitForOperations } from '../wait.ts';
import { requireDone, showNoOperation } from '../work.ts';

/** Checks of the preflight: `skip` leaves out the advice, never the rules that protect data. */
export interface ChecksFlags extends AbandonFlag {
  dryRun?: true;
  checks: 'enabled' | 'strict' | 'skip';
}

/** Adds `--dry-run`, `--checks` and `--abandon-local-tables` to a command that takes nodes away. */
export function withChecks(command: Command): Command {
  const checked = command
    .option('--dry-run', 'show the plan and change nothing')
    .addOption(
      new Option('--checks <how>', 'preflight; skip never skips the rules that protect data')
        .choices(['enabled', 'strict', 'skip'])
        .default('enabled'),
    );
  return withAbandon(checked);
}

/** KWDB's columns of a node on its way out or back. */
export const memberColumns = columns<NodeStatusRow>('id', 'isLive', 'replicas', 'isDecommissioning', 'isDraining');

/** KWDB's last sentence, for the scripts that wait for it. */
const DONE = '\nNo more data reported on target nodes. Please verify cluster health before removing the nodes.';

/**
 * `tide node decommission`: moves everything off the nodes, all of them in one plan, and reports as KWDB
 * does.
 */
export function addDecommission(node: Command, run: CliRun): void {
  const decommission = withWait(
    withChecks(
      defineClient(node, {
        usage: 'decommission <ids...>',
        summary: 'move all replicas off nodes, so that they can be removed; several nodes are one plan',
        examples: [
          'tide node decommission 3 --dry-run',
          'tide node decommission 3 4',
          'tide node decommission 3 --wait=none && tide op watch',
        ],
      }),
    ),
  );
  onClient<ChecksFlags & WaitFlags>(run, decommission, async ({ session, flags, args }) => {
    const nodes = await resolveNodes(session, args);
    const { dryRun = false, checks, abandonLocalTables } = flags;
    const started = await session.call({
      do: 'node-decommission',
      nodes,
      dryRun,
      checks,
      ...given({ abandonLocalTables }),
    });
    warnOfLocalData(session, started);
    if (started.operation === null && dryRun) showNoOperation(session, started);
    else await report(session, nodes, started.operation, flags.wait);
    return 0;
  });
}

async function report(
  session: Session,
  nodes: number[],
  operation: number | null,
  wait: 'all' | 'none',
): Promise<void> {
  const rows = new MemberRows(session, nodes);
  if (operation === null || wait === 'none') {
    await rows.print();
    if (operation !== null) session.warn(`operation ${operation} goes on: tide op watch ${operation}`);
    return;
  }
  const ops = await waitForOperations(session, [operation], (display) => rows.printMeanwhile(display));
  if (session.format === 'json') session.show(ops, []);
  else await rows.print();
  requireDone(ops);
  session.say(DONE);
}

/**
 * Prints the nodes when something about them changed, a dot when not. A terminal has the progress line for
 * that.
 */
class MemberRows {
  readonly #session: Session;
  readonly #ids: readonly number[];
  #printed = '';

  constructor(session: Session, ids: readonly number[]) {
    this.#session = session;
    this.#ids = ids;
  }

  async print(display?: Display): Promise<void> {
    const all = await this.#session.call({ do: 'node-status' });
    const rows = all.filter((node) => this.#ids.includes(node.id));
    const seen = JSON.stringify(rows.map((node) => memberColumns.map((column) => column.value(node))));
    if (seen === this.#printed) display?.dot();
    else {
      display?.clear();
      this.#session.show(rows, memberColumns);
      this.#printed = seen;
    }
  }

  /** While work goes on; json is one document, at the end. */
  async printMeanwhile(display: Display): Promise<void> {
    const progressLineIsEnough = this.#session.host.stderr.isTTY === true && this.#printed !== '';
    if (this.#session.format !== 'json' && !progressLineIsEnough) await this.print(display);
  }
}
