/** PostgreSQL protocol 3, "Message Formats": a byte for the type, then the length of what follows, itself included. */
const HEAD_BYTES = 5;
const ERROR_RESPONSE = 0x45;
const BACKEND_KEY_DATA = 0x4b;
const READY_FOR_QUERY = 0x5a;
/** Answers to a request for encryption: single bytes, before anything else. */
const NO = 0x4e;
const YES_TLS = 0x53;
const YES_GSS = 0x47;
/** An error that is longer passes as it is. */
const GATHERED_BYTES_MAX = 1 << 20;

const QUERY_CANCELED = '57014';
const HINT = 'Repeat the transaction. Deadlocks over several nodes are found by the manager: tide events lists them.';

/**
 * Follows the messages that a server sends in one session, in whatever pieces they come, and knows where each begins. One of them may be
 * exchanged: the error of a statement that was cancelled to end a deadlock. Everything else passes byte for byte.
 */
export class ServerFrames {
  /** The process that serves the session, once it has said so. */
  pid: number | null = null;
  #hasBegun = false;
  /** Encrypted, or nothing that is known: nothing is looked at any more. */
  #isOpaque = false;
  /** Of the message under way, yet to come. */
  #bodyBytes = 0;
  /** The beginning of a message that cannot be judged yet. */
  #kept: Buffer | null = null;
  #detail: string | null = null;

  expectDeadlock(detail: string): void {
    this.#detail = detail;
  }

  forgetDeadlock(): void {
    this.#detail = null;
  }

  /** What is to be passed on now for a piece that has come. */
  take(piece: Buffer): Buffer {
    if (this.#isOpaque) return piece;
    if (this.#kept === null && this.#bodyBytes >= piece.length) {
      this.#bodyBytes -= piece.length;
      return piece;
    }
    const bytes = this.#kept === null ? piece : Buffer.concat([this.#kept, piece]);
    this.#kept = null;
    return this.#follow(bytes);
  }

  #follow(bytes: Buffer): Buffer {
    let at = this.#bodyBytes;
    if (!this.#hasBegun) at = this.#begin(bytes);
    while (at + HEAD_BYTES <= bytes.length && !this.#isOpaque) {
      const type = bytes[at];
      const next = at + 1 + bytes.readInt32BE(at + 1);
      if (next < at + HEAD_BYTES) this.#isOpaque = true;
      else if (this.#concerns(type) && next - at <= GATHERED_BYTES_MAX) {
        if (next > bytes.length) break;
        const answer = this.#answer(bytes.subarray(at, next));
        if (answer !== null) return Buffer.concat([bytes.subarray(0, at), answer, this.#goOn(bytes.subarray(next))]);
      }
      at = next;
    }
    if (this.#isOpaque || at === bytes.length) this.#bodyBytes = 0;
    else if (at > bytes.length) this.#bodyBytes = at - bytes.length;
    else {
      this.#bodyBytes = 0;
      this.#kept = Buffer.from(bytes.subarray(at));
      return bytes.subarray(0, at);
    }
    return bytes;
  }

  #goOn(rest: Buffer): Buffer {
    this.#bodyBytes = 0;
    return this.#follow(rest);
  }

  /** Where the first message begins: behind "no" to requests for encryption. */
  #begin(bytes: Buffer): number {
    let at = 0;
    while (bytes[at] === NO) at++;
    if (bytes[at] === YES_TLS || bytes[at] === YES_GSS) this.#isOpaque = true;
    this.#hasBegun = at < bytes.length;
    return at;
  }

  #concerns(type: number | undefined): boolean {
    if (this.#detail === null) return type === BACKEND_KEY_DATA && this.pid === null;
    return type === ERROR_RESPONSE || type === READY_FOR_QUERY;
  }

  /** What is sent in place of a whole message; null: the message itself. */
  #answer(message: Buffer): Buffer | null {
    if (message[0] === BACKEND_KEY_DATA) {
      this.pid = message.readInt32BE(HEAD_BYTES);
      return null;
    }
    const detail = this.#detail;
    // Whatever it was that ended, what comes after is another statement's.
    this.#detail = null;
    return message[0] === ERROR_RESPONSE && detail !== null ? asDeadlock(message, detail) : null;
  }
}

/** The error as PostgreSQL would have reported a deadlock; null where it is about something else. */
function asDeadlock(message: Buffer, detail: string): Buffer | null {
  const texts = message.subarray(HEAD_BYTES).toString().split('\0');
  const fields = new Map(texts.filter((text) => text !== '').map((text) => [text.slice(0, 1), text.slice(1)]));
  if (fields.get('C') !== QUERY_CANCELED) return null;
  const { S = 'ERROR', V = 'ERROR', W } = Object.fromEntries(fields);
  const said = { S, V, C: '40P01', M: 'deadlock detected', D: detail, H: HINT, ...(W === undefined ? {} : { W }) };
  return errorResponse({ ...said, F: 'deadlock.c', R: 'DeadLockReport' });
}

/** An ErrorResponse message: fields of one letter and a string each, a zero at the end. */
export function errorResponse(fields: Readonly<Record<string, string>>): Buffer {
  const texts = Object.entries(fields).map(([key, value]) => `${key}${value}\0`);
  const body = Buffer.from(`${texts.join('')}\0`);
  const head = Buffer.alloc(HEAD_BYTES);
  head.writeUInt8(ERROR_RESPONSE);
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}
