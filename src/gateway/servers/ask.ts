import { connect, type Socket } from 'node:net';
import type { ServerAddress } from '../messages.ts';
import {
  cancelKey,
  endOfMessage,
  errorFields,
  firstColumn,
  HEAD_BYTES,
  isAuthenticated,
  simpleQuery,
  startupMessage,
  TYPE,
} from '../wire/messages.ts';

/** A session in which nothing is under way. */
export interface Begun {
  readonly socket: Socket;
  /** Process and secret: what a request to cancel has to say. */
  readonly key: Buffer;
}

interface Said {
  readonly answer: string;
  readonly key: Buffer;
}

const ANSWER_MS = 2_000;
/** A server that is gone is found out by the system, where nothing is said to it, 15 s after that. */
const KEEP_ALIVE = { keepAlive: true, keepAliveInitialDelay: 5_000 } as const;
const NOTHING = Buffer.alloc(0);

/**
 * Begins a session as one of pgtide's own roles, which the server trusts (`pg_hba.conf`). Rejects with what
 * keeps it from being of use.
 */
export async function begin(address: ServerAddress, parameters: ReadonlyMap<string, string>): Promise<Begun> {
  const socket = connect({ ...address, ...KEEP_ALIVE, noDelay: true });
  // Also while nobody listens to it: it is closed then.
  socket.on('error', () => {});
  socket.once('connect', () => socket.write(startupMessage(parameters)));
  const { key } = await untilReady(socket);
  return { socket, key };
}

/**
 * The answer to a question: one row of one column of text. Rejects with what keeps it from being answered.
 */
export async function ask(socket: Socket, question: string): Promise<string> {
  socket.write(simpleQuery(question));
  return (await untilReady(socket)).answer;
}

/** What the server says until it is ready for more. The socket is of no more use where that fails. */
function untilReady(socket: Socket): Promise<Said> {
  return new Promise((resolve, reject) => {
    const listener = new Listener();
    const over = () => {
      clearTimeout(timer);
      socket.off('data', take).off('error', failed).off('close', closed).pause();
    };
    const fail = (why: string) => {
      over();
      socket.destroy();
      reject(new Error(why));
    };
    const failed = (error: Error) => fail(error.message);
    const closed = () => fail('it was closed');
    const take = (piece: Buffer) => {
      const said = listener.take(piece);
      if (said === null) return;
      if ('because' in said) return fail(said.because);
      over();
      if (listener.rest.length > 0) socket.unshift(listener.rest);
      resolve(said);
    };
    const timer = setTimeout(() => fail(`it did not answer within ${ANSWER_MS} ms`), ANSWER_MS);
    socket.on('data', take).on('error', failed).on('close', closed).resume();
  });
}

class Listener {
  /** What has come behind what was read. */
  rest: Buffer = NOTHING;
  #answer = '';
  #key: Buffer = NOTHING;

  /** Null: there is more to come. */
  take(piece: Buffer): Said | { readonly because: string } | null {
    const bytes = Buffer.concat([this.rest, piece]);
    let at = 0;
    while (at + HEAD_BYTES <= bytes.length) {
      const end = endOfMessage(bytes, at);
      if (end < at + HEAD_BYTES) return { because: 'it is no PostgreSQL' };
      if (end > bytes.length) break;
      const said = this.#message(bytes.subarray(at, end));
      at = end;
      if (said === null) continue;
      this.rest = bytes.subarray(at);
      return said;
    }
    this.rest = bytes.subarray(at);
    return null;
  }

  #message(message: Buffer): Said | { readonly because: string } | null {
    switch (message[0]) {
      case TYPE.errorResponse:
        return { because: errorFields(message).M ?? 'it refuses' };
      case TYPE.authentication:
        return isAuthenticated(message) ? null : { because: 'it asks for a password' };
      case TYPE.backendKeyData:
        this.#key = cancelKey(message);
        return null;
      case TYPE.dataRow:
        this.#answer = firstColumn(message) ?? '';
        return null;
      case TYPE.readyForQuery:
        return { answer: this.#answer, key: this.#key };
      default:
        return null;
    }
  }
}
