import { connect, createServer, type Server, type Socket } from 'node:net';

/**
 * What becomes of what goes between two nodes: late by so much; or taken, acknowledged by TCP, and never
 * passed on.
 */
export type Wire = { readonly delayMs: number } | 'swallows';

const CLEAR: Wire = { delayMs: 0 };

/**
 * Stands between the nodes: everybody reaches everybody else through an address of the relay, which tells by
 * a caller's address who it is. A wire is one direction between two nodes, on connections that either of them
 * has opened.
 */
export class Relay {
  readonly #nodeAt: (address: string) => number | null;
  readonly #wires = new Map<string, Wire>();
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  /** Connections that have lost something, and cannot be of use any more. */
  readonly #broken = new Set<Socket>();
  /** Chunks that were swallowed. */
  swallowed = 0;

  constructor(nodeAt: (address: string) => number | null) {
    this.#nodeAt = nodeAt;
  }

  /** Takes connections for a node's port. */
  async listen(host: string, port: number, to: { node: number; host: string }): Promise<void> {
    const server = createServer({ allowHalfOpen: true, noDelay: true }, (caller) => {
      const from = this.#nodeAt(caller.remoteAddress ?? '');
      const called = connect({ host: to.host, port, allowHalfOpen: true, noDelay: true });
      this.#pass(caller, called, `${from} ${to.node}`);
      this.#pass(called, caller, `${to.node} ${from}`);
    });
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port }, resolve);
    });
  }

  /** From now on, what `from` sends to `to`. */
  set(from: number, to: number, wire: Wire): void {
    this.#wires.set(`${from} ${to}`, wire);
  }

  /** All is passed on at once again; connections that have lost something are closed. */
  heal(): void {
    this.#wires.clear();
    for (const socket of this.#broken) socket.destroy();
    this.#broken.clear();
  }

  #pass(from: Socket, to: Socket, name: string): void {
    this.#sockets.add(from);
    let freeMs = 0;
    const later = (work: () => void) => {
      const wire = this.#wires.get(name) ?? CLEAR;
      if (wire === 'swallows') {
        this.swallowed += 1;
        this.#broken.add(from);
        return;
      }
      // Never before what came earlier.
      const nowMs = performance.now();
      freeMs = Math.max(freeMs, nowMs + wire.delayMs);
      if (freeMs <= nowMs) work();
      else setTimeout(work, freeMs - nowMs);
    };
    from.on('data', (chunk) => {
      later(() => {
        if (to.writable && !to.write(chunk)) {
          from.pause();
          to.once('drain', () => from.resume());
        }
      });
    });
    from.on('end', () => later(() => to.end()));
    from.on('error', () => later(() => to.destroy()));
    from.once('close', () => {
      this.#sockets.delete(from);
      later(() => to.destroySoon());
    });
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
