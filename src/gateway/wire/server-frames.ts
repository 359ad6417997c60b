import { endOfMessage, HEAD_BYTES } from './messages.ts';
import { ENCRYPTION } from './startup.ts';

/** Looks at what a server sends in one session. */
export interface Onlooker {
  /** Whether it wants messages of this type, whole. Asked again for every message. */
  wants(type: number): boolean;
  /** What is sent in the place of a message; null: the message itself. */
  exchange(message: Buffer): Buffer | null;
}

/** A message that is longer passes as it is. */
const GATHERED_BYTES_MAX = 1 << 20;

/**
 * Follows the messages that a server sends in one session, in whatever pieces they come, and knows where each
 * begins. Those that the onlooker wants may be exchanged; everything else passes byte for byte.
 */
export class ServerFrames {
  readonly #onlooker: Onlooker;
  #hasBegun = false;
  /** Encrypted, or nothing that is known: nothing is looked at any more. */
  #isOpaque = false;
  /** Of the message under way, yet to come. */
  #bodyBytes = 0;
  /** The beginning of a message that cannot be judged yet. */
  #kept: Buffer | null = null;

  constructor(onlooker: Onlooker) {
    this.#onlooker = onlooker;
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
    const parts: Buffer[] = [];
    let from = 0;
    let at = this.#bodyBytes;
    this.#bodyBytes = 0;
    if (!this.#hasBegun) at = this.#begin(bytes);
    while (at + HEAD_BYTES <= bytes.length && !this.#isOpaque) {
      const next = endOfMessage(bytes, at);
      if (next < at + HEAD_BYTES) this.#isOpaque = true;
      else if (next - at <= GATHERED_BYTES_MAX && this.#onlooker.wants(bytes[at] as number)) {
        if (next > bytes.length) break;
        const answer = this.#onlooker.exchange(bytes.subarray(at, next));
        if (answer !== null) {
          parts.push(bytes.subarray(from, at), answer);
          from = next;
        }
      }
      at = next;
    }
    if (at > bytes.length) this.#bodyBytes = at - bytes.length;
    else if (at < bytes.length && !this.#isOpaque) {
      this.#kept = Buffer.from(bytes.subarray(at));
      return joined(parts, bytes.subarray(from, at));
    }
    return joined(parts, from === 0 ? bytes : bytes.subarray(from));
  }

  /** Where the first message begins: behind "no" to requests for encryption. */
  #begin(bytes: Buffer): number {
    let at = 0;
    while (bytes[at] === ENCRYPTION.no) at++;
    if (bytes[at] === ENCRYPTION.tls || bytes[at] === ENCRYPTION.gss) this.#isOpaque = true;
    this.#hasBegun = at < bytes.length;
    return at;
  }
}

const joined = (parts: Buffer[], last: Buffer) => (parts.length === 0 ? last : Buffer.concat([...parts, last]));
