import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { tideError } from '../core/errors.ts';

/**
 * So that a node whose HTTP is flooded goes on beating and answering beats: what may be had of it at once is
 * bounded, and the longest parts of its work are done one in a turn of the event loop, so that whatever else
 * has arrived comes between.
 */

/** Work of which only so much is done at once. */
export class Slots {
  readonly #max: number;
  #taken = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** Throws NODE_BUSY where all are taken. */
  async hold<T>(work: () => Promise<T>): Promise<T> {
    if (this.#taken >= this.#max) throw tideError('NODE_BUSY', { requests: this.#max });
    this.#taken += 1;
    try {
      return await work();
    } finally {
      this.#taken -= 1;
    }
  }
}

/** Gives one turn of the event loop to one asker. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  next(): Promise<unknown> {
    this.#last = this.#last.then(() => turn());
    return this.#last;
  }
}

/**
 * Bodies that are on their way, of which only so many are kept at once. One more pushes out the one that
 * began first: what comes in good time is there after moments, so the oldest is the slowest.
 */
export class Arriving {
  readonly #max: number;
  readonly #requests = new Set<IncomingMessage>();

  constructor(max: number) {
    this.#max = max;
  }

  add(request: IncomingMessage): void {
    this.#requests.add(request);
    const there = () => this.#requests.delete(request);
    request.once('end', there).once('close', there);
    for (const slowest of this.#requests) {
      if (this.#requests.size <= this.#max) return;
      this.#requests.delete(slowest);
      slowest.socket.destroy();
    }
  }
}

/**
 * The open HTTP connections. One too many closes another: first of those that ask nothing, or have not said
 * all that they ask, the one that has been so for longest; where all wait for their answers, the new one.
 */
export class Connections {
  readonly #max: number;
  /** In the order in which they came to be so. */
  readonly #idle = new Set<Socket>();
  readonly #answered = new Set<Socket>();

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#idle.size + this.#answered.size;
  }

  add(socket: Socket): void {
    this.#idle.add(socket);
    socket.once('close', () => {
      this.#idle.delete(socket);
      this.#answered.delete(socket);
    });
    const [longest] = this.#idle;
    if (this.size > this.#max && longest !== undefined) this.#end(longest);
  }

  /** From when a request is there as a whole until its answer is written. */
  whileAnswering(socket: Socket, answer: { once(event: 'close', listener: () => void): unknown }): void {
    if (!this.#idle.delete(socket)) return;
    this.#answered.add(socket);
    answer.once('close', () => {
      if (this.#answered.delete(socket) && !socket.destroyed) this.#idle.add(socket);
    });
  }

  #end(socket: Socket): void {
    this.#idle.delete(socket);
    socket.destroy();
  }
}

const DEPTH_MAX = 100;
const [QUOTE, BACKSLASH] = [0x22, 0x5c];

/**
 * JSON that is nested deeper than anything we send: what walks through it could run out of stack. Looks at
 * bytes, before any is parsed.
 */
export function isTooDeep(json: Uint8Array): boolean {
  let depth = 0;
  let isText = false;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (byte === QUOTE) isText = !isText;
    else if (isText) at += byte === BACKSLASH ? 1 : 0;
    else if (byte === 0x5b || byte === 0x7b) {
      depth += 1;
      if (depth > DEPTH_MAX) return true;
    } else if (byte === 0x5d || byte === 0x7d) depth -= 1;
  }
  return false;
}
