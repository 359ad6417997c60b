import fc from 'fast-check';
import { expect, test } from 'vitest';
import { endOfMessage, errorFields, errorResponse } from '../../../src/gateway/wire/messages.ts';

const anyText = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'));
const anyFields = fc.dictionary(fc.constantFrom('S', 'V', 'C', 'M', 'D', 'H', 'W'), anyText, { minKeys: 1 });

test('an error says what it was given, and how long it is', () => {
  fc.assert(
    fc.property(anyFields, (fields) => {
      const message = errorResponse(fields);
      expect(errorFields(message)).toEqual({ ...fields });
      expect(endOfMessage(message, 0)).toBe(message.length);
      expect(endOfMessage(Buffer.concat([Buffer.from('xyz'), message, message]), 3)).toBe(3 + message.length);
    }),
  );
});

test('a length that is none ends before the head does', () => {
  expect(endOfMessage(Buffer.from('E\0\0\0\x03'), 0)).toBeLessThan(5);
});
