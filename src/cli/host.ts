import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as wait } from 'node:timers/promises';
import type { DemoOptions, StartOptions } from '../api/start-options.ts';
import type { SqlConnection } from './sql/connection.ts';

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
  /** A user's session at a node's listen port; `onNotice` gets what the server has to say beside answers. */
  openSql(address: string, onNotice: (text: string) => void): Promise<SqlConnection>;
  /** Runs psql until it ends; resolves with its exit status, null where there is none. */
  runPsql(connection: string): Promise<number | null>;
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
  /** Standard input, line by line, as it is typed. */
  readLines(): AsyncIterable<string>;
  /** Standard input to its end. */
  readStdin(): Promise<string>;
  /** Calls `handler` at Ctrl-C instead of ending the process, until the returned function is called. */
  onInterrupt(handler: () => void): () => void;
}

/** The host of a real process. */
export function processHost(parts: Pick<CliHost, 'startNode' | 'runDemo' | 'openSql'>): CliHost {
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
    runPsql,
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
    readLines: () => createInterface({ input: process.stdin }),
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

function runPsql(connection: string): Promise<number | null> {
  // Ctrl-C is psql's: it cancels a statement.
  const ignore = () => {};
  process.on('SIGINT', ignore);
  const psql = spawn('psql', [connection], { stdio: 'inherit' });
  return new Promise((resolve) => {
    psql.once('error', () => resolve(null));
    psql.once('exit', (status) => resolve(status ?? 1));
  }).finally(() => process.off('SIGINT', ignore)) as Promise<number | null>;
}

/**
 * Ends the process once everything is written: a pipe takes more than it can hold only while the process
 * lives. Not left to the event loop, because after Ctrl-C an unanswered request would keep it for the rest of
 * its time.
 */
export function exitWhenWritten(status: number): void {
  process.stdout.write('', () => process.stderr.write('', () => process.exit(status)));
}
