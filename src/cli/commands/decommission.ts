import { type Command, Option } from 'commander';
import type { NodeStatusRow } from '../../api/results.ts';
import { type CliRun, defineClient, onClient, type WaitFlags, withWait } from '../command.ts';
import { resolveNodes } from '../nodes.ts';
import { columns } from '../output.ts';
import type { Session } from '../session.ts';
import { waitForOperations } from '../wait.ts';
import { requireDone, showNoOperation } from '../work.ts';

/** Checks of the preflight: `skip` leaves out the advice, never the rules that protect data. */
export interface ChecksFlags {
  dryRun?: true;
  checks: 'enabled' | 'strict' | 'skip';
}

/** Adds `--dry-run` and `--checks` to a command that takes nodes away. */
export function withChecks(command: Command): Command {
  return command
    .option('--dry-run', 'show the plan and change nothing')
    .addOption(
      new Option('--checks <how>', 'preflight; skip never skips the rules that protect data')
        .choices(['enabled', 'strict', 'skip'])
        .default('enabled'),
    );
}

/** KWDB's columns of a node on its way out or back. */
export const memberColumns = columns<NodeStatusRow>('id', 'isLive', 'replicas', 'isDecommissioning', 'isDraining');

/** KWDB's last sentence, for the scripts that wait for it. */
const DONE = '\nNo more data reported on target nodes. Please verify cluster health before removing the nodes.';
const DOT_EVERY_MS = 1_000;

/** `tide node decommission`: moves everything off the nodes, all of them in one plan, and reports as KWDB does. */
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
    const { dryRun = false, checks } = flags;
    const started = await session.call({ do: 'node-decommission', nodes, dryRun, checks });
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
  const ops = await waitForOperations(session, [operation], async (display) => {
    await rows.printChanged(() => display.clear());
  });
  if (session.format === 'json') session.show(ops, []);
  else await rows.printLast();
  requireDone(ops);
  session.say(DONE);
}

/** Prints the nodes when something about them changed, a dot when not. A terminal has the progress line for that. */
class MemberRows {
  readonly #session: Session;
  readonly #ids: readonly number[];
  #printed = '';
  #dotMs = 0;
  #dots = false;

  constructor(session: Session, ids: readonly number[]) {
    this.#session = session;
    this.#ids = ids;
  }

  async print(): Promise<void> {
    this.#write(await this.#fetch());
  }

  async printChanged(before: () => void): Promise<void> {
    const quiet = this.#session.host.stderr.isTTY === true && this.#printed !== '';
    if (quiet || this.#session.format === 'json') return;
    const rows = await this.#fetch();
    if (JSON.stringify(rows.map(essence)) !== this.#printed) {
      before();
      this.#write(rows);
    } else this.#dot();
  }

  async printLast(): Promise<void> {
    const rows = await this.#fetch();
    if (JSON.stringify(rows.map(essence)) !== this.#printed) this.#write(rows);
    else if (this.#dots) this.#session.host.stderr.write('\n');
  }

  async #fetch(): Promise<NodeStatusRow[]> {
    const all = await this.#session.call({ do: 'node-status' });
    return all.filter((node) => this.#ids.includes(node.id));
  }

  #write(rows: NodeStatusRow[]): void {
    const { host } = this.#session;
    if (this.#dots) host.stderr.write('\n');
    this.#dots = false;
    this.#dotMs = host.now();
    this.#session.show(rows, memberColumns);
    this.#printed = JSON.stringify(rows.map(essence));
  }

  #dot(): void {
    const { host } = this.#session;
    if (host.now() - this.#dotMs < DOT_EVERY_MS) return;
    host.stderr.write('.');
    this.#dotMs = host.now();
    this.#dots = true;
  }
}

function essence(node: NodeStatusRow) {
  return memberColumns.map((column) => column.value(node));
}
