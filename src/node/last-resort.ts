import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../core/errors.ts';

/** How long what is let go of may take: the process ends then, in whatever state it is. */
const LET_GO_MS = 2_000;

/**
 * Does `work` as long as no error comes up that nobody catches. Such a one leaves the process in a state that
 * nobody knows: it is logged, `letGo` gives back what others would wait for, and the error is thrown,
 * whatever `work` is at. Whoever called ends the process then, as a crash would: its store is free, and its
 * PostgreSQL goes on until the next process adopts it, or until its lease has run out.
 */
export async function untilUncaught<T>(
  work: () => Promise<T>,
  letGo: () => Promise<unknown>,
  log: (message: string, facts: object) => void,
): Promise<T> {
  let caught: (error: unknown) => void = () => {};
  const uncaught = new Promise<unknown>((resolve) => {
    caught = resolve;
  });
  // An unhandled rejection comes here, too. One error makes others: they are logged and change nothing any
  // more.
  const notice = (error: unknown, from: string) => {
    log('an error that nobody has caught: the process ends', {
      from,
      error: (error as Error)?.stack ?? messageOf(error),
    });
    caught(error);
  };
  process.on('uncaughtException', notice);
  const working = work();
  const ended = await Promise.race([
    working.then(
      () => null,
      () => null,
    ),
    uncaught.then((error) => ({ error })),
  ]);
  if (ended === null) return working.finally(() => process.off('uncaughtException', notice));
  await Promise.race([letGo(), sleep(LET_GO_MS)]).catch(() => {});
  throw ended.error;
}
