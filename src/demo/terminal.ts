import { clock } from './screen.ts';

/**
 * Where the demo speaks. On a terminal, sentences scroll up above a live picture that is drawn again in
 * place; elsewhere there are only the sentences, each with its time.
 */
export interface Terminal {
  readonly isLive: boolean;
  readonly colours: boolean;
  readonly width: number;
  /** Says something that stays. */
  say(text: string): void;
  /** Replaces the live picture. */
  draw(lines: readonly string[]): void;
}

export function createTerminal(out: NodeJS.WriteStream, env: NodeJS.ProcessEnv): Terminal {
  const isLive = out.isTTY === true && env.TERM !== 'dumb';
  const begin = performance.now();
  let drawn: readonly string[] = [];
  const erase = () => (drawn.length === 0 ? '' : `\x1b[${drawn.length}A\r\x1b[J`);
  return {
    isLive,
    colours: isLive && (env.NO_COLOR ?? '') === '',
    get width() {
      return (out.columns ?? 100) - 1;
    },
    say(text) {
      const stamp = `${clock(performance.now() - begin)}  `;
      const sentence = text.split('\n').join(`\n${' '.repeat(stamp.length)}`);
      const picture = drawn.map((line) => `${line}\n`).join('');
      out.write(`${erase()}${text === '' ? '' : stamp}${sentence}\n${picture}`);
    },
    draw(lines) {
      if (!isLive) return;
      // A picture taller than the window cannot be erased again.
      const fitting = lines.slice(0, Math.max(1, (out.rows ?? 24) - 2));
      out.write(erase() + fitting.map((line) => `${line}\n`).join(''));
      drawn = fitting;
    },
  };
}
