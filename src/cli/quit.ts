import { connect } from 'node:net';
import { type Watch, watchEnd } from '../api/farewell.ts';
import { tideError } from '../core/errors.ts';
import { hostOf } from './flags.ts';
import { catchInterrupt } from './interrupt.ts';
import type { Session } from './session.ts';

const POLL_MS = 300;
const SAY_EVERY_MS = 10_000;
/** Statements under way, PostgreSQL's shutdown checkpoint: minutes at most. */
const QUIT_MAX_MS = 180_000;
const PROBE_TIMEOUT_MS = 2_000;

/**
 * Tells the node at `address` to end, and waits until its process and its PostgreSQL are gone, wherever they
 * run: on what ends with the process, a connection. Throws QUIT_UNFINISHED after 3 min.
 */
export async function quitNode(session: Session, address: string): Promise<void> {
  const watch = await watchEnd(address, PROBE_TIMEOUT_MS);
  await session.quit(address);
  await untilGone(session, address, watch);
}

/**
 * For a node that has been told to end already: true once it is gone, false where nobody was there to wait
 * for.
 */
export async function awaitGone(session: Session, address: string): Promise<boolean> {
  const watch = await watchEnd(address, PROBE_TIMEOUT_MS);
  if (watch === null) return false;
  await untilGone(session, address, watch);
  return true;
}

async function untilGone(session: Session, address: string, first: Watch | null): Promise<void> {
  const { host } = session;
  const interrupt = catchInterrupt(host);
  const startMs = host.now();
  let saidMs = startMs - SAY_EVERY_MS + 1_000;
  let watch = first;
  try {
    for (;;) {
      if (watch?.end === null) {
        // Its process lives.
      } else if (!(await interrupt.orInterrupted(listens(address)))) {
        if (watch) warnOfPostgres(session, address, watch);
        return;
      } else if (watch) {
        // Only the connection has ended.
        watch = await interrupt.orInterrupted(watchEnd(address, PROBE_TIMEOUT_MS));
      }
      const nowMs = host.now();
      const waitedS = Math.round((nowMs - startMs) / 1000);
      if (nowMs - startMs > QUIT_MAX_MS) throw tideError('QUIT_UNFINISHED', { address, seconds: waitedS });
      if (nowMs - saidMs >= SAY_EVERY_MS) {
        host.stderr.write(`node is ending... ${address} ${watch?.says ?? 'still answers'} after ${waitedS} s\n`);
        saidMs = nowMs;
      }
      await interrupt.orInterrupted(host.sleep(POLL_MS));
    }
  } finally {
    watch?.close();
    interrupt.release();
  }
}

function warnOfPostgres(session: Session, address: string, { end }: Watch): void {
  if (end?.postgres === 'runs')
    session.warn(`the node at ${address} has ended, but its PostgreSQL could not be stopped`);
  if (end?.postgres === 'unknown')
    session.warn(`the node at ${address} has ended without a last word, as if killed: its PostgreSQL may still run`);
}

/** Whether something accepts connections at HOST:PORT; a host that does not answer at all counts as not. */
function listens(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const host = hostOf(address).replace(/^\[|\]$/g, '');
    const socket = connect({
      host,
      port: Number(address.slice(address.lastIndexOf(':') + 1)),
      timeout: PROBE_TIMEOUT_MS,
    });
    const answer = (open: boolean) => {
      socket.destroy();
      resolve(open);
    };
    socket.once('connect', () => answer(true));
    socket.once('timeout', () => answer(false));
    socket.once('error', () => answer(false));
  });
}
