import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';

export interface LogLine {
  readonly time: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** What a node's process has written so far; a line that is still being written is none yet. */
async function nodeLog(store: string): Promise<LogLine[]> {
  const text = await readFile(join(store, 'logs', 'node.log'), 'utf8').catch(() => '');
  const whole = text.split('\n').slice(0, -1);
  return whole.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line));
}

/** The first such line; it may come later than what it tells of. Fails where none does within `timeoutMs`. */
export async function untilLogged(
  store: string,
  isWanted: (line: LogLine) => boolean,
  timeoutMs = 30_000,
): Promise<LogLine> {
  let found: LogLine | undefined;
  const look = async () => {
    found = (await nodeLog(store)).find(isWanted);
    return found !== undefined;
  };
  await expect.poll(look, { timeout: timeoutMs, interval: 50, message: `a line in the log of ${store}` }).toBe(true);
  return found as LogLine;
}
