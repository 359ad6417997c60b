import type { Socket } from 'node:net';
import type { Who } from './messages.ts';
import { ENCRYPTION, type FirstMessage, firstMessage } from './wire/startup.ts';

/** What a client wants, its message, and whatever came behind it. */
export interface Startup {
  readonly who: Who;
  readonly parameters: ReadonlyMap<string, string>;
  readonly message: Buffer;
  readonly rest: Buffer;
}

const NO = Buffer.from([ENCRYPTION.no]);

/**
 * Reads a client's first message, and answers requests for encryption before it with "no", as PostgreSQL does
 * on its Unix socket. The socket is paused then. Null: the client has ended, or it is no such message; the
 * socket is of no more use. How long that may take is for the caller to bound.
 */
export function readStartup(client: Socket, got: (startup: Startup | null) => void): void {
  let received: Buffer = Buffer.alloc(0);
  const done = (startup: Startup | null) => {
    client.off('data', take).off('end', ended).pause();
    got(startup);
  };
  const ended = () => done(null);
  const take = (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    let first = firstMessage(received);
    while (typeof first === 'object' && first.kind === 'encryption') {
      client.write(NO);
      received = received.subarray(first.bytes);
      first = firstMessage(received);
    }
    if (first === 'broken') done(null);
    else if (first !== 'partial') done(startupOf(first, received));
  };
  client.on('data', take).once('end', ended).resume();
}

function startupOf(first: FirstMessage, bytes: Buffer): Startup {
  const [message, rest] = [bytes.subarray(0, first.bytes), bytes.subarray(first.bytes)];
  if (first.kind !== 'startup')
    return { who: { kind: 'cancel', role: null, database: null }, parameters: new Map(), message, rest };
  const { parameters } = first;
  const role = parameters.get('user') ?? null;
  return { who: { kind: 'startup', role, database: parameters.get('database') ?? role }, parameters, message, rest };
}
