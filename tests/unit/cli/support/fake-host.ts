import type { DemoOptions, StartOptions } from '../../../../src/api/start-options.ts';
import type { CliHost, CliStream } from '../../../../src/cli/host.ts';

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
