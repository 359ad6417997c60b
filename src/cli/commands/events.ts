import type { Command } from 'commander';
import type { EventRow } from '../../api/results.ts';
import { messageOf } from '../../core/errors.ts';
import { sqlTime } from '../../core/units.ts';
import { type CliRun, defineClient, onClient } from '../command.ts';
import { integer } from '../flags.ts';
import { catchInterrupt, Interrupted } from '../interrupt.ts';
import { type Column, columns, type Format, render } from '../output.ts';
import type { Session } from '../session.ts';
import { isPassing, NO_ANSWER_MAX_MS } from '../wait.ts';

const POLL_MS = 1_000;
const LIMIT_DEFAULT = 200;

interface EventFlags {
  follow?: true;
  limit: number;
}

const shape: Column<EventRow>[] = [
  ...columns<EventRow>('seq', 'at:time', 'kind'),
  { name: 'node', value: (event) => (event.node === null ? null : `n${event.node}`) },
  ...columns<EventRow>('operation', 'text'),
];

/** `tide events` */
export function addEvents(program: Command, run: CliRun): void {
  const events = defineClient(program, {
    usage: 'events',
    summary:
      'what happened in the cluster; --follow goes on until Ctrl-C, with one JSON object per line for --format=json',
    examples: ['tide events', 'tide events --limit=20', 'tide events --follow'],
  })
    .option('--follow', 'go on with what happens next')
    .option('--limit <n>', 'how many', integer(1, 10_000), LIMIT_DEFAULT);
  onClient<EventFlags>(run, events, async ({ session, flags }) => {
    const rows = await session.call({ do: 'events', limit: flags.limit });
    if (flags.follow) await follow(session, rows);
    else session.show(rows, shape);
    return 0;
  });
}

/** What came after `after`. A node that does not answer is asked again, and that is said once. */
async function newer(session: Session, after: number): Promise<EventRow[]> {
  const beganMs = session.host.now();
  for (let tries = 1; ; tries++) {
    try {
      return await session.call({ do: 'events', after });
    } catch (error) {
      if (!isPassing(error) || session.host.now() - beganMs >= NO_ANSWER_MAX_MS) throw error;
      if (tries === 1) session.warn(`${messageOf(error)}; asking again for ${NO_ANSWER_MAX_MS / 1000} s`);
      await session.host.sleep(POLL_MS);
    }
  }
}

async function follow(session: Session, first: EventRow[]): Promise<void> {
  const interrupt = catchInterrupt(session.host);
  let after = 0;
  try {
    for (let rows = first; ; rows = await interrupt.orInterrupted(newer(session, after))) {
      if (rows.length > 0) session.host.stdout.write(eventLines(session.format, rows, after === 0));
      after = rows.at(-1)?.seq ?? after;
      await interrupt.orInterrupted(session.host.sleep(POLL_MS));
    }
  } catch (error) {
    // Ctrl-C is how following ends.
    if (!(error instanceof Interrupted)) throw error;
  } finally {
    interrupt.release();
  }
}

/** Lines that can be printed one batch after the other: no rule, no count, and the header only once. */
function eventLines(format: Format, rows: readonly EventRow[], withHeader: boolean): string {
  if (format === 'json') return rows.map((event) => `${JSON.stringify(event)}\n`).join('');
  if (format === 'table') return rows.map(eventLine).join('');
  const text = render(format, rows, shape, rows);
  return withHeader ? text : text.slice(text.indexOf('\n') + 1);
}

function eventLine(event: EventRow): string {
  const node = event.node === null ? '' : `n${event.node}`;
  return `${sqlTime(event.at)}  ${event.kind.padEnd(20)} ${node.padEnd(5)} ${event.text}\n`;
}
