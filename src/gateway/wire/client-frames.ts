import { endOfMessage, HEAD_BYTES } from './messages.ts';

/** What a client sends after its startup (PostgreSQL manual, 54.7). */
export const CLIENT = {
  bind: 0x42,
  close: 0x43,
  copyData: 0x64,
  copyDone: 0x63,
  copyFail: 0x66,
  describe: 0x44,
  execute: 0x45,
  functionCall: 0x46,
  flush: 0x48,
  parse: 0x50,
  query: 0x51,
  sync: 0x53,
  terminate: 0x58,
} as const;

export interface ClientListener {
  /** A whole message, its head included. The bytes are its own until they are sent. */
  message(type: number, bytes: Buffer): void;
  /** A piece of a message that is too long to be kept; of its head `type` is said with the first piece. */
  piece(type: number | null, bytes: Buffer): void;
  /** What has come is no message: nothing that follows can be understood. */
  broken(bytes: Buffer): void;
}

/** What is longer is passed on in pieces, as it comes. */
const LONG_BYTES = 256 << 10;

/** Follows the messages that a client sends in one session, in whatever pieces they come. */
export class ClientFrames {
  readonly #listener: ClientListener;
  /** Of the long message under way, yet to come. */
  #longBytes = 0;
  #kept: Buffer | null = null;
  #isBroken = false;

  constructor(listener: ClientListener) {
    this.#listener = listener;
  }

  take(piece: Buffer): void {
    const bytes = this.#kept === null ? piece : Buffer.concat([this.#kept, piece]);
    this.#kept = null;
    let at = this.#restOfLong(bytes);
    while (at < bytes.length) {
      if (this.#isBroken) {
        this.#listener.broken(bytes.subarray(at));
        return;
      }
      if (at + HEAD_BYTES > bytes.length) break;
      const end = endOfMessage(bytes, at);
      if (end < at + HEAD_BYTES) this.#isBroken = true;
      else if (end <= bytes.length) {
        this.#listener.message(bytes[at] as number, bytes.subarray(at, end));
        at = end;
      } else if (end - at <= LONG_BYTES) break;
      else {
        this.#longBytes = end - bytes.length;
        this.#listener.piece(bytes[at] as number, bytes.subarray(at));
        return;
      }
    }
    if (at < bytes.length) this.#kept = bytes.subarray(at);
  }

  #restOfLong(bytes: Buffer): number {
    if (this.#longBytes === 0) return 0;
    const end = Math.min(this.#longBytes, bytes.length);
    this.#longBytes -= end;
    this.#listener.piece(null, bytes.subarray(0, end));
    return end;
  }
}
