import { describe, expect, test } from 'vitest';
import { createTerminal } from '../../../src/demo/terminal.ts';

/** A terminal that understands what the demo writes: text, line ends, cursor up, erase below. */
function screen(isTTY: boolean, env: NodeJS.ProcessEnv = {}) {
  const lines = [''];
  let row = 0;
  const write = (text: string) => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: an escape sequence begins with one
    for (const [token] of text.matchAll(/\x1b\[\d*[AJ]|[\n\r]|[^\x1b\n\r]+/g)) {
      if (token === '\n') lines[++row] ??= '';
      else if (token.endsWith('A') && token.startsWith('\x1b')) row -= Number(token.slice(2, -1));
      else if (token === '\x1b[J') lines.splice(row, lines.length, '');
      else if (token !== '\r') lines[row] += token;
    }
    return true;
  };
  const out = { isTTY, columns: 80, rows: 10, write } as unknown as NodeJS.WriteStream;
  return { terminal: createTerminal(out, env), shown: () => lines.join('\n').replaceAll(/\d\d:\d\d/g, 'mm:ss') };
}

describe('where the demo speaks', () => {
  test('on a terminal sentences scroll up above the picture', () => {
    const { terminal, shown } = screen(true);
    terminal.say('one');
    terminal.draw(['a', 'b', 'c']);
    terminal.say('two\nand more');
    terminal.draw(['x']);
    expect(shown()).toBe('mm:ss  one\nmm:ss  two\n       and more\nx\n');
    terminal.draw([]);
    expect(shown()).toBe('mm:ss  one\nmm:ss  two\n       and more\n');
  });

  test('a picture taller than the window is cut, or it could not be erased', () => {
    const { terminal, shown } = screen(true);
    const tall = Array.from({ length: 20 }, (_, i) => `line ${i}`);
    terminal.draw(tall);
    terminal.draw(tall);
    expect(shown()).toBe(`${tall.slice(0, 8).join('\n')}\n`);
  });

  test('elsewhere there are only sentences', () => {
    const { terminal, shown } = screen(false);
    terminal.draw(['a', 'b']);
    terminal.say('one');
    expect(shown()).toBe('mm:ss  one\n');
    expect([terminal.isLive, terminal.colours]).toEqual([false, false]);
  });

  test('NO_COLOR and a dumb terminal are respected', () => {
    expect(screen(true).terminal.colours).toBe(true);
    expect(screen(true, { NO_COLOR: '1' }).terminal.colours).toBe(false);
    expect(screen(true, { TERM: 'dumb' }).terminal.isLive).toBe(false);
  });
});
