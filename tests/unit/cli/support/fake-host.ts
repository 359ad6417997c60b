import type { DemoOptions, StartOptions } from '../../../../src/api/start-options.ts';
import type { CliHost, CliStream } from '../../../../src/cli/host.ts';
import type { SqlAnswer, SqlConnection } from '../../../../src/cli/sql/connection.ts';

const rows = (columns: string[], ...found: unknown[][]): SqlAnswer[] => [
  { command: 'SELECT', rowCount: found.length, columns, rows: found },
];
/** As a session answers, in docs/commands.md. */
const SQL: Readonly<Record<string, SqlAnswer[]>> = {
  'SHOW CLUSTER SETTING move.max_pause': rows(['move.max_pause'], ['200']),
  'SELECT table_name, pid, node FROM tide.routes': rows(['table_name', 'pid', 'node'], ['acct', 0, 1], ['acct', 1, 3]),
  'SET CLUSTER SETTING rebalance.auto = off': [{ command: 'CALL', rowCount: null, columns: [], rows: [] }],
};

/** A host whose time passes only while somebody sleeps, and which keeps what was written, in order. */
export class FakeHost implements CliHost {
  /** Both streams, as somebody at a terminal would read them. */
  transcript = '';
  out = '';
  err = '';
  stdin = '';
  canAsk = false;
  /** What is typed. */
  answers: string[] = [];
  /** Statements, whose address comes before them; and that psql was started, or a session ended. */
  executed: string[] = [];
  /** What a statement gives. */
  sql: (text: string, onNotice: (text: string) => void) => SqlAnswer[] = (text) => SQL[text.replace(/;$/, '')] ?? [];
  /** Null: there is no psql. */
  psqlStatus: number | null = null;
  started: StartOptions[] = [];
  demos: DemoOptions[] = [];
  /** Presses Ctrl-C after so many sleeps. */
  interruptAfterSleeps = Number.POSITIVE_INFINITY;
  /** Hears which sleep begins. */
  atSleep: (count: number) => void = () => {};
  readonly stdout: CliStream;
  readonly stderr: CliStream;
  readonly env: Record<string, string>;
  #nowMs = 0;
  #sleeps = 0;
  #interrupt: () => void = () => {};

  constructor(env: Record<string, string>, terminals: { stdout: boolean; stderr: boolean }) {
    this.env = env;
    this.stdout = {
      isTTY: terminals.stdout,
      write: (text) => {
        this.out += text;
        this.transcript += text;
      },
    };
    this.stderr = {
      isTTY: terminals.stderr,
      columns: 80,
      write: (text) => {
        this.err += text;
        this.transcript += text;
      },
    };
  }

  async startNode(options: StartOptions): Promise<number> {
    this.started.push(options);
    return 0;
  }

  async runDemo(options: DemoOptions): Promise<number> {
    this.demos.push(options);
    return 0;
  }

  now(): number {
    return this.#nowMs;
  }

  async sleep(ms: number): Promise<void> {
    this.#nowMs += ms;
    this.#sleeps += 1;
    this.atSleep(this.#sleeps);
    if (this.#sleeps >= this.interruptAfterSleeps) this.#interrupt();
    await new Promise((resolve) => setImmediate(resolve));
  }

  async readLine(): Promise<string> {
    return this.answers.shift() ?? '';
  }

  async *readLines(): AsyncIterable<string> {
    yield* this.answers.splice(0);
  }

  async openSql(address: string, onNotice: (text: string) => void): Promise<SqlConnection> {
    return {
      query: async (text) => {
        this.executed.push(`${address} ${text}`);
        return this.sql(text, onNotice);
      },
      close: async () => void this.executed.push('close'),
    };
  }

  async runPsql(connection: string): Promise<number | null> {
    this.executed.push(`psql ${connection}`);
    return this.psqlStatus;
  }

  async readStdin(): Promise<string> {
    return this.stdin;
  }

  onInterrupt(handler: () => void): () => void {
    this.#interrupt = handler;
    return () => {
      this.#interrupt = () => {};
    };
  }
}
