import fc from 'fast-check';
import { expect, test } from 'vitest';
import { runCli } from '../../../src/cli/main.ts';
import { withPrintableOutput } from '../../../src/cli/printable.ts';
import { FakeHost } from './support/fake-host.ts';

const newHost = () => new FakeHost({}, { stdout: true, stderr: true });

test('no text of others moves the cursor, sets a title or turns the writing round', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      const host = newHost();
      withPrintableOutput(host).stdout.write(text);
      expect(host.out.replaceAll('\r\n', '\n')).not.toMatch(/(?![\n\t])[\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
    }),
  );
});

test('what is JSON stays so, and means the same', () => {
  fc.assert(
    fc.property(fc.json({ stringUnit: 'binary' }), (json) => {
      const host = newHost();
      withPrintableOutput(host).stdout.write(json);
      expect(JSON.parse(host.out)).toEqual(JSON.parse(json));
    }),
  );
});

test('an error about what was typed shows it, too', async () => {
  const host = newHost();
  expect(await runCli(['\u001b]0;title\u0007'], host)).toBe(2);
  expect(host.err).toContain('\\u001b]0;title\\u0007');
  expect(host.err).not.toContain('\u001b');
});
