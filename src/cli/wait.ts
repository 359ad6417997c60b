import type { OperationResult, OperationRow } from '../api/results.ts';
import { messageOf, TideError, tideError } from '../core/errors.ts';
import { Display } from './display.ts';
import { catchInterrupt, Interrupted } from './interrupt.ts';
import { isEnded } from './progress.ts';
import type { Session } from './session.ts';

const POLL_MS = 300;
/** A node that restarts or a manager that changes is gone for seconds; longer is worth an error. */
export const NO_ANSWER_MAX_MS = 60_000;

/**
 * Polls operations until all have ended, showing their progress, and gives back how they ended. `eachPoll`
 * runs after every answer; it gets the display, to clear it before printing. Faults in between (nobody
 * answers, no manager) are outlived for 60 s, then WAIT_LOST; Ctrl-C throws `Interrupted` with how to go on.
 */
export async function waitForOperations(
  session: Session,
  ids: readonly number[],
  eachPoll: (display: Display) => Promise<void> = async () => {},
): Promise<OperationResult[]> {
  const known = new Map<number, OperationResult>();
  const inOrder = () => ids.flatMap((id) => known.get(id) ?? []);
  await poll(session, ids.join(','), async (display) => {
    const open = ids.filter((id) => !ended(known.get(id)));
    const answers = await Promise.all(open.map((id) => session.call({ do: 'op-show', id })));
    for (const answer of answers) known.set(answer.id, answer);
    display.operations(inOrder());
    await eachPoll(display);
    return ids.every((id) => ended(known.get(id)));
  });
  return inOrder();
}

/** Watches whatever runs until nothing runs any more; operations started meanwhile are watched too. */
export async function watchAll(session: Session): Promise<OperationRow[]> {
  const seen = new Map<number, OperationRow>();
  await poll(session, '', async (display) => {
    const ops = await session.call({ do: 'op-ls', all: true });
    const watched = ops.filter((op) => op.parent === null && (!isEnded(op) || seen.has(op.id)));
    for (const op of watched) seen.set(op.id, op);
    display.operations(watched);
    return watched.every(isEnded);
  });
  return [...seen.values()];
}

function ended(op: OperationResult | undefined): boolean {
  return op !== undefined && isEnded(op);
}

async function poll(session: Session, what: string, look: (display: Display) => Promise<boolean>): Promise<void> {
  const { host } = session;
  const display = new Display(host);
  const interrupt = catchInterrupt(host);
  let answeredMs = host.now();
  try {
    for (;;) {
      try {
        if (await interrupt.orInterrupted(look(display))) return;
        answeredMs = host.now();
      } catch (error) {
        const silentMs = host.now() - answeredMs;
        if (!isPassing(error)) throw error;
        if (silentMs >= NO_ANSWER_MAX_MS) throw lost(session, what, silentMs, error);
        display.trouble(troubleText(silentMs, error));
      }
      await interrupt.orInterrupted(host.sleep(POLL_MS));
    }
  } catch (error) {
    throw error instanceof Interrupted && what !== '' ? new Interrupted(goesOn(what)) : error;
  } finally {
    display.clear();
    interrupt.release();
  }
}

export function isPassing(error: unknown): boolean {
  return error instanceof TideError && error.retry === 'later';
}

function troubleText(silentMs: number, error: unknown): string {
  const left = Math.round((NO_ANSWER_MAX_MS - silentMs) / 1000);
  return `${messageOf(error)}; the operation goes on, asking again for ${left} s`;
}

function lost(session: Session, what: string, silentMs: number, cause: unknown): TideError {
  const seconds = Math.round(silentMs / 1000);
  return tideError('WAIT_LOST', { id: what, address: session.address, seconds, why: messageOf(cause) }, cause);
}

function goesOn(what: string): string {
  const first = what.split(',')[0];
  const name = what.includes(',') ? `operations ${what} go on` : `operation ${what} goes on`;
  return `${name}: 'tide op watch ${first}' shows it, 'tide op cancel ${first}' cancels it`;
}
