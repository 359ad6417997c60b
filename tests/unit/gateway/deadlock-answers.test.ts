import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SessionAnswers } from '../../../src/gateway/deadlock-answers.ts';
import { errorResponse } from '../../../src/gateway/wire/messages.ts';

const PID = 4711;

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}

const KEY = message('K', Buffer.from([0, 0, PID >> 8, PID & 255, 1, 2, 3, 4]));
const START = Buffer.concat([message('R', Buffer.alloc(4)), message('S', Buffer.from('a\0b\0')), KEY]);
const READY = message('Z', Buffer.from('T'));
const cancelled = (more: object = {}) =>
  errorResponse({ S: 'FEHLER', V: 'ERROR', C: '57014', M: 'canceling statement due to user request', ...more });
const DEADLOCK = errorResponse({
  S: 'FEHLER',
  V: 'ERROR',
  C: '40P01',
  M: 'deadlock detected',
  D: 'the circle',
  H: 'Repeat the transaction. Deadlocks over several nodes are found by the manager: tide events lists them.',
  F: 'deadlock.c',
  R: 'DeadLockReport',
});

/** What comes out of a session when `bytes` come in pieces cut at `cuts`. */
function pass(session: SessionAnswers, bytes: Buffer, cuts: readonly number[] = []): Buffer {
  const places = [0, ...cuts.map((c) => c % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return Buffer.concat(places.slice(1).map((end, n) => session.take(bytes.subarray(places[n], end))));
}

const anyMessage = fc
  .tuple(fc.constantFrom('D', 'T', 'C', 'N', '1', '2', 't', 'd', 'A', 'S', 'G', 'E'), fc.uint8Array({ maxLength: 40 }))
  .map(([type, body]) => message(type, Buffer.from(body)));
const anyMessages = fc.array(anyMessage, { maxLength: 20 }).map((all) => Buffer.concat(all));
const anyCuts = fc.array(fc.nat(), { maxLength: 30 });

describe('what a server sends', () => {
  test('passes byte for byte, in whatever pieces', () => {
    fc.assert(
      fc.property(anyMessages, anyCuts, fc.nat(2), (bytes, cuts, refusals) => {
        const all = Buffer.concat([Buffer.from('N'.repeat(refusals)), START, bytes, cancelled(), READY]);
        const session = new SessionAnswers();
        expect(pass(session, all, cuts)).toEqual(all);
        expect(session.processId).toBe(PID);
      }),
    );
  });

  test('but for the cancel that ends a deadlock, which is one', () => {
    fc.assert(
      fc.property(anyMessages, anyMessages, anyCuts, fc.nat(), (early, late, cuts, at) => {
        // Errors that are no cancels: the first of them ends the expectation, as it ends the statement.
        const rows = Buffer.concat([early.subarray(0, 0), START]);
        const session = new SessionAnswers();
        const head = Buffer.concat([rows, message('D', early)]);
        const when = at % (message('D', early).length + 1);
        expect(pass(session, head.subarray(0, rows.length + when), cuts)).toBeDefined();
        session.expectDeadlock('the circle');
        const rest = Buffer.concat([head.subarray(rows.length + when), cancelled(), READY, late, cancelled(), READY]);
        const first = Buffer.concat([head.subarray(rows.length + when), DEADLOCK, READY, late, cancelled(), READY]);
        // A head that was cut is held back until it is whole.
        const held = when > 0 && when < 5 ? head.subarray(rows.length, rows.length + when) : Buffer.alloc(0);
        expect(pass(session, rest, cuts)).toEqual(Buffer.concat([held, first]));
      }),
    );
  });

  test('another error, or the end of the statement, ends the expectation', () => {
    for (const other of [errorResponse({ S: 'ERROR', V: 'ERROR', C: '40001', M: 'x' }), READY]) {
      const session = new SessionAnswers();
      pass(session, START);
      session.expectDeadlock('the circle');
      const all = Buffer.concat([other, cancelled(), READY]);
      expect(pass(session, all)).toEqual(all);
    }
  });

  test('so does its withdrawal', () => {
    const session = new SessionAnswers();
    pass(session, START);
    session.expectDeadlock('the circle');
    session.forgetDeadlock();
    expect(pass(session, cancelled())).toEqual(cancelled());
  });

  test('where the cancel was, stays', () => {
    const session = new SessionAnswers();
    pass(session, START);
    session.expectDeadlock('the circle');
    const context = 'while updating tuple (0,2) in relation "t4_p0"';
    expect(pass(session, cancelled({ W: context })).toString()).toContain(`W${context}\0`);
  });

  test('what is encrypted, or no message at all, is left alone', () => {
    for (const begin of ['S', 'G', 'NS', 'E\0\0\0\0']) {
      const session = new SessionAnswers();
      const all = Buffer.concat([Buffer.from(begin), Buffer.from([0x17, 3, 3, 0, 0, 0, 0]), START]);
      expect(pass(session, all, [1, 3, 9])).toEqual(all);
      expect(session.processId).toBeNull();
    }
  });
});
