import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import type { DemoOptions, StartOptions } from '../api/start-options.ts';

/** What the CLI writes to; `process.stdout` and `process.stderr` fit. */
export interface CliStream {
  write(text: string): unknown;
  /** Writes what moves the cursor, where `write` only shows (`printable.ts`). */
  control?(sequence: string): unknown;
  isTTY?: boolean | undefined;
  columns?: number | undefined;
}

/**
 * Everything the CLI touches outside itself, so that a test can run it without processes, terminals or
 * waiting.
 */
export interface CliHost {
  /** Runs a node until it ends (with `background`: until it is ready); resolves with the exit status. */
  startNode(options: StartOptions): Promise<number>;
  runDemo(options: DemoOptions): Promise<number>;
  stdout: CliStream;
  stderr: CliStream;
  env: Readonly<Record<string, string | undefined>>;
  /** Milliseconds of a clock that does not go backwards. */
  now(): number;
  sleep(ms: number): Promise<void>;
  /** Somebody sits at standard input and can be asked. */
  readonly canAsk: boolean;
  /** The next line of standard input, empty where it has ended. */
  readLine(): Promise<string>;
  /** Standard input to its end. */
  readStdin(): Promise<string>;
  /** Calls `handler` at Ctrl-C instead of ending the process, until the returned function is called. */
  onInterrupt(handler: () => void): () => void;
}

/** The host of a real process. */
export function processHost(parts: Pick<CliHost, 'startNode' | 'runDemo'>): CliHost {
  // `tide events | head` closes the pipe when it has seen enough: nobody reads any more, so there is nothing
  // left to do.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  // Nobody reads what a node has to tell while it waits: it goes on, and its log has it.
  process.stderr.on('error', () => {});
  return {
    ...parts,
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
    now: () => performance.now(),
    sleep: (ms) => wait(ms),
    canAsk: process.stdin.isTTY === true && process.stderr.isTTY === true,
    readLine: async () => {
      const lines = createInterface({ input: process.stdin });
      try {
        for await (const line of lines) return line;
        return '';
      } finally {
        lines.close();
      }
    },
    readStdin: async () => {
      const chunks: Buffer[] = [];
      for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
      return Buffer.concat(chunks).toString();
    },
    onInterrupt: (handler) => {
      process.on('SIGINT', handler);
      return () => process.off('SIGINT', handler);
    },
  };
}

/**
 * Ends the process once everything is written: a pipe takes more than it can hold only while the process
 * lives. Not left to the event loop, because after Ctrl-C an unanswered request would keep it for the rest of
 * its time.
 */
export function exitWhenWritten(status: number): void {
  process.stdout.write('', () => process.stderr.write('', () => process.exit(status)));
}
