import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { firstMessage } from '../../../src/gateway/wire/startup.ts';

/** Of protocol 3.0, without parameters. */
const BARE = Buffer.from([0, 0, 0, 9, 0, 3, 0, 0, 0]);

function startup(words: readonly string[]): Buffer {
  const body = Buffer.from(`${words.map((word) => `${word}\0`).join('')}\0`);
  const head = Buffer.from([0, 0, 0, 0, 0, 3, 0, 0]);
  head.writeInt32BE(head.length + body.length);
  return Buffer.concat([head, body]);
}

const parameters = (bytes: Buffer) => {
  const first = firstMessage(bytes);
  return typeof first === 'object' && first.kind === 'startup' ? Object.fromEntries(first.parameters) : first;
};

describe('the first message of a client', () => {
  it('is waited for until it is whole, and may not have an absurd length', () => {
    expect(firstMessage(BARE)).toEqual({ kind: 'startup', bytes: 9, parameters: new Map() });
    for (let length = 0; length < BARE.length; length++) expect(firstMessage(BARE.subarray(0, length))).toBe('partial');
    expect(firstMessage(Buffer.from([0, 0, 0, 7, 0, 3, 0, 0]))).toBe('broken');
    expect(firstMessage(Buffer.from([0, 0xff, 0, 9, 0, 3, 0, 0]))).toBe('broken');
    expect(firstMessage(Buffer.from([0xff, 0, 0, 9, 0, 3, 0, 0]))).toBe('broken');
  });

  it('says who the client is: the last word counts, a name is not taken for a value', () => {
    expect(parameters(startup(['user', 'tide', 'database', 'user', 'user', 'ada']))).toEqual({
      user: 'ada',
      database: 'user',
    });
    expect(parameters(startup(['user', 'tide', '', 'user', 'ada']))).toEqual({ user: 'tide' });
    expect(parameters(startup(['user', 'Zoë']))).toEqual({ user: 'Zoë' });
    expect(parameters(startup(['__proto__', 'x', 'user', 'ada']))).toMatchObject({ user: 'ada' });
  });

  it('may ask for encryption, or for a cancel', () => {
    const request = (code: number, length = 8) => {
      const bytes = Buffer.alloc(length);
      bytes.writeInt32BE(length);
      bytes.writeInt32BE(code, 4);
      return Buffer.concat([bytes, BARE]);
    };
    expect(firstMessage(request(80_877_103))).toEqual({ kind: 'encryption', bytes: 8 });
    expect(firstMessage(request(80_877_104))).toEqual({ kind: 'encryption', bytes: 8 });
    expect(firstMessage(request(80_877_102, 16))).toEqual({ kind: 'cancel', bytes: 16 });
  });

  it('is never longer than what has come', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(60), (body, length) => {
        const bytes = Buffer.concat([Buffer.from([0, 0, 0, length]), Buffer.from(body)]);
        const first = firstMessage(bytes);
        if (typeof first === 'object') expect(first.bytes).toBeLessThanOrEqual(bytes.length);
      }),
    );
  });
});
