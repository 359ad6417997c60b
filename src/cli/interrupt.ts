import type { CliHost } from './host.ts';

/** Ctrl-C while waiting: not a failure of the cluster, and what was started goes on. */
export class Interrupted extends Error {
  /** Exit status by the shells' convention: 128 + SIGINT. */
  readonly status = 130;
}

/**
 * Lets waiting end at Ctrl-C: `orInterrupted` gives the promise's value, or throws `Interrupted` as soon as
 * it comes.
 */
export function catchInterrupt(host: CliHost): {
  orInterrupted: <T>(promise: Promise<T>) => Promise<T>;
  release: () => void;
} {
  let interrupt: () => void = () => {};
  const interrupted = new Promise<never>((_, reject) => {
    interrupt = () => reject(new Interrupted('interrupted'));
  });
  // Nobody may be listening at the moment of the signal.
  interrupted.catch(() => {});
  const release = host.onInterrupt(interrupt);
  return { orInterrupted: (promise) => Promise.race([promise, interrupted]), release };
}
