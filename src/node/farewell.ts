import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { FAREWELL_TARGET, type FarewellWord } from '../api/farewell.ts';

/** Whoever waits for a node has one. */
const WATCHERS_MAX = 32;
/** Its server cuts all other connections at once. */
const CLOSE_MS = 500;

/**
 * Who wants to see this node's end has a connection that nobody here ever closes: the operating system does,
 * when the process is gone, however it went. What the node has to say until then goes over it. Watching ends
 * nothing, so it needs no more right than reaching the port.
 */
export class Farewell {
  readonly #watchers = new Set<Duplex>();

  /** Takes a connection that asks for this; every other target is refused. */
  receive({ url }: IncomingMessage, socket: Duplex): void {
    socket.on('error', () => socket.destroy());
    const known = url === FAREWELL_TARGET;
    if (!known || this.#watchers.size >= WATCHERS_MAX) {
      socket.end(`HTTP/1.1 ${known ? '503 Service Unavailable' : '400 Bad Request'}\r\nConnection: close\r\n\r\n`);
      return;
    }
    this.#watchers.add(socket);
    socket.once('close', () => this.#watchers.delete(socket));
    // A watcher that ends its side has gone.
    socket.once('end', () => socket.destroy());
    socket.resume();
    socket.write('HTTP/1.1 200 Watching\r\n\r\n');
  }

  say(word: FarewellWord): void {
    for (const socket of this.#watchers) socket.write(`${JSON.stringify(word)}\n`);
  }

  /** Waits for the end of an HTTP server, but not for those who watch. */
  async beside(closing: Promise<unknown>): Promise<void> {
    await Promise.race([closing, sleep(CLOSE_MS, undefined, { ref: false })]);
  }
}
