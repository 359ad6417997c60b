import type { Socket } from 'node:net';

/** How long a client may take to say what it is and, a PostgreSQL client, who. */
const HELLO_MS = 10_000;
/** Clients that were not let in yet. One more closes the one that has waited for longest. */
const WAITING_MAX = 1_000;

/** Connections of clients that were not let in yet: none stays so for longer than `helloMs`, or for all. */
export class Hellos {
  readonly #waiting = new Set<Socket>();
  readonly #helloMs: number;

  constructor(helloMs = HELLO_MS) {
    this.#helloMs = helloMs;
  }

  /** Takes one more; what it gives lets the client in, or somebody else see to it. */
  add(socket: Socket): () => void {
    // Not the socket's own timeout, which every byte begins anew.
    const timer = setTimeout(() => socket.destroy(), this.#helloMs);
    const letIn = () => {
      clearTimeout(timer);
      this.#waiting.delete(socket);
    };
    this.#waiting.add(socket);
    socket.once('close', letIn);
    const [longest] = this.#waiting;
    if (this.#waiting.size > WAITING_MAX) longest?.destroy();
    return letIn;
  }

  close(): void {
    for (const socket of this.#waiting) socket.destroy();
  }
}
