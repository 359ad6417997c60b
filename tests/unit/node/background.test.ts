import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { tideError } from '../../../src/core/errors.ts';
import { startInBackground } from '../../../src/node/background.ts';

const noWait = () => {};
let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pgtide-background-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/**
 * A child in plain JavaScript that speaks the messages of `reportReady` and `reportFailed`: Node 20 does not
 * run TypeScript itself.
 */
async function child(body: string): Promise<string> {
  const file = join(dir, 'child.mjs');
  await writeFile(file, body);
  return file;
}

it('returns what the child says when it is ready, and leaves it running', async () => {
  const script = await child(`
    console.log('log line', process.env.PGTIDE_BACKGROUND_CHILD);
    process.send({ pgtide: 'ready', text: 'banner ' + process.argv[2] }, () => process.disconnect());
    setTimeout(() => {}, 20000);`);
  const { processId, text } = await startInBackground([script, 'x'], join(dir, 'node.log'), noWait);
  expect(text).toBe('banner x');
  process.kill(processId, 0);
  process.kill(processId, 'SIGKILL');
  expect(await readFile(join(dir, 'node.log'), 'utf8')).toBe('log line 1\n');
});

it('hands on what the child waits for', async () => {
  const script = await child(`
    process.send({ pgtide: 'waits', text: 'waits for the manager' });
    process.send({ pgtide: 'ready', text: 'banner' }, () => process.disconnect());`);
  const waits: string[] = [];
  expect((await startInBackground([script], join(dir, 'node.log'), (text) => waits.push(text))).text).toBe('banner');
  expect(waits).toEqual(['waits for the manager']);
});

it("throws the child's own error", async () => {
  const error = tideError('STORE_IN_USE', { path: '/x', pid: 7 }).toBody();
  const script = await child(
    `process.send({ pgtide: 'failed', error: ${JSON.stringify(error)} }, () => process.exit(3));`,
  );
  await expect(startInBackground([script], join(dir, 'node.log'), noWait)).rejects.toMatchObject({
    code: 'STORE_IN_USE',
    details: { pid: 7 },
  });
});

it('quotes the log of a child that just ends', async () => {
  const script = await child(`throw new Error('no such module');`);
  await expect(startInBackground([script], join(dir, 'node.log'), noWait)).rejects.toMatchObject({
    code: 'BACKGROUND_FAILED',
    details: { exit: 'exit status 1', logTail: expect.stringContaining('no such module') },
  });
  const missing = startInBackground([pathToFileURL(dir).href], join(dir, 'no', 'node.log'), noWait);
  await expect(missing).rejects.toMatchObject({ code: 'STORE_UNUSABLE' });
});
