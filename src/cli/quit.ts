import { connect } from 'node:net';
import { tideError } from '../core/errors.ts';
import { hostOf } from './flags.ts';
import { catchInterrupt } from './interrupt.ts';
import type { Session } from './session.ts';

const POLL_MS = 300;
const SAY_EVERY_MS = 10_000;
/** Statements under way, PostgreSQL's shutdown checkpoint: minutes at most. */
const QUIT_MAX_MS = 180_000;
const PROBE_TIMEOUT_MS = 2_000;

/** Tells the node at `address` to end, and waits until nothing listens there. Throws QUIT_UNFINISHED after 3 min. */
export async function quitNode(session: Session, address: string): Promise<void> {
  const { host } = session;
  await session.quit(address);
  const interrupt = catchInterrupt(host);
  const startMs = host.now();
  let saidMs = startMs - SAY_EVERY_MS + 1_000;
  try {
    while (await interrupt.orInterrupted(listens(address))) {
      const nowMs = host.now();
      const waitedS = Math.round((nowMs - startMs) / 1000);
      if (nowMs - startMs > QUIT_MAX_MS) throw tideError('QUIT_UNFINISHED', { address, seconds: waitedS });
      if (nowMs - saidMs >= SAY_EVERY_MS) {
        host.stderr.write(`node is ending... ${address} still answers after ${waitedS} s\n`);
        saidMs = nowMs;
      }
      await interrupt.orInterrupted(host.sleep(POLL_MS));
    }
  } finally {
    interrupt.release();
  }
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
