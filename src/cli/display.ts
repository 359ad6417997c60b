import type { OperationRow } from '../api/results.ts';
import type { CliHost } from './host.ts';
import { cutTo, isEnded, milestone, progressLine, progressLines } from './progress.ts';

/** Where there is no terminal, silence lasts no longer than this. */
const SILENCE_MAX_MS = 10_000;
const DOT_EVERY_MS = 1_000;
const LINES_MAX = 12;
const COLUMNS_DEFAULT = 80;

/**
 * Shows running operations on standard error: on a terminal lines that are rewritten in place, elsewhere a
 * line for each milestone and, when nothing happens, one every 10 s.
 */
export class Display {
  readonly #host: CliHost;
  readonly #terminal: boolean;
  readonly #shown = new Map<number, string>();
  #linesUp = 0;
  #dots = 0;
  #dotMs = 0;
  #inTrouble = false;
  #spokeMs: number;

  constructor(host: CliHost) {
    this.#host = host;
    this.#terminal = host.stderr.isTTY === true;
    this.#spokeMs = host.now();
  }

  operations(ops: readonly OperationRow[]): void {
    this.#inTrouble = false;
    if (this.#terminal) this.#redraw(ops.filter((op) => !isEnded(op)).flatMap(progressLines));
    else this.#report(ops);
  }

  /** Something is wrong with the waiting itself. */
  trouble(text: string): void {
    if (this.#terminal) this.#redraw([text]);
    else this.#say(text, !this.#inTrouble || this.#silentTooLong());
    this.#inTrouble = true;
  }

  /** Nothing changed: KWDB's dot, where no line is rewritten in place. */
  dot(): void {
    if (this.#terminal || this.#host.now() - this.#dotMs < DOT_EVERY_MS) return;
    this.#host.stderr.write('.');
    this.#dots += 1;
    this.#dotMs = this.#host.now();
  }

  /** Takes the lines away, or ends the line of dots, so that something lasting can be printed. */
  clear(): void {
    if (this.#linesUp > 0) this.#host.stderr.control?.(`\x1b[${this.#linesUp}A\x1b[J`);
    if (this.#dots > 0) this.#host.stderr.write('\n');
    this.#linesUp = 0;
    this.#dots = 0;
  }

  #redraw(lines: string[]): void {
    this.clear();
    const width = (this.#host.stderr.columns ?? COLUMNS_DEFAULT) - 1;
    const hidden = lines.length - LINES_MAX;
    const visible = hidden > 0 ? [...lines.slice(0, LINES_MAX), `… and ${hidden} more`] : lines;
    this.#host.stderr.write(visible.map((line) => `${cutTo(line, width)}\n`).join(''));
    this.#linesUp = visible.length;
  }

  #report(ops: readonly OperationRow[]): void {
    for (const op of ops) {
      const now = milestone(op);
      this.#say(progressLine(op), this.#shown.get(op.id) !== now);
      this.#shown.set(op.id, now);
    }
    const running = ops.find((op) => !isEnded(op));
    if (running) this.#say(progressLine(running), this.#silentTooLong());
  }

  #say(line: string, now: boolean): void {
    if (!now) return;
    this.clear();
    this.#host.stderr.write(`${line}\n`);
    this.#spokeMs = this.#host.now();
    this.#dotMs = this.#spokeMs;
  }

  #silentTooLong(): boolean {
    return this.#host.now() - this.#spokeMs >= SILENCE_MAX_MS;
  }
}
