import { createServer, type Server, type Socket } from 'node:net';

/** Messages as a PostgreSQL sends them. */
export const message = (type: string, body: Buffer | string = '') => {
  const bytes = Buffer.from(body);
  const head = Buffer.alloc(5);
  head.write(type);
  head.writeInt32BE(4 + bytes.length, 1);
  return Buffer.concat([head, bytes]);
};
export const parseComplete = message('1');
export const bindComplete = message('2');
export const commandComplete = message('C', 'SELECT 1\0');
export const ready = message('Z', 'I');
export const error = (code: string, severity = 'ERROR') =>
  message('E', `S${severity}\0V${severity}\0C${code}\0Mso it is\0\0`);
export const row = (text: string) => {
  const head = Buffer.alloc(6);
  head.writeUInt16BE(1);
  head.writeInt32BE(Buffer.byteLength(text), 2);
  return message('D', Buffer.concat([head, Buffer.from(text)]));
};

/** One session of a client with a server that says what a test has it say. */
export interface Served {
  readonly socket: Socket;
  /** Types of the messages that have come, `PBES` for a statement that is sent with its text. */
  readonly heard: string;
}

/** Greets whoever comes, answers questions with `answer`, and leaves all else to the test. */
export class ScriptedServer {
  readonly sessions: Served[] = [];
  /** Requests to cancel. */
  cancels = 0;
  readonly #server: Server;
  readonly #answer: string;

  private constructor(answer: string) {
    this.#answer = answer;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  static async start(answer: string): Promise<ScriptedServer> {
    const server = new ScriptedServer(answer);
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get address(): { host: string; port: number } {
    return { host: '127.0.0.1', port: (this.#server.address() as { port: number }).port };
  }

  async close(): Promise<void> {
    for (const { socket } of this.sessions) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #serve(socket: Socket): void {
    const session = { socket, heard: '' };
    let rest = Buffer.alloc(0);
    let hasBegun = false;
    socket.on('error', () => {});
    socket.on('data', (piece) => {
      rest = Buffer.concat([rest, piece]);
      if (!hasBegun) {
        if (rest.readInt32BE(4) === 80_877_102) {
          this.cancels += 1;
          socket.end();
          return;
        }
        rest = rest.subarray(rest.readInt32BE(0));
        hasBegun = true;
        this.sessions.push(session);
        socket.write(Buffer.concat([message('R', Buffer.alloc(4)), message('K', Buffer.alloc(8)), ready]));
      }
      while (rest.length >= 5) {
        const end = 1 + rest.readInt32BE(1);
        if (rest.length < end) break;
        const type = String.fromCharCode(rest[0] as number);
        rest = rest.subarray(end);
        if (type === 'Q') socket.write(Buffer.concat([row(this.#answer), commandComplete, ready]));
        else session.heard += type;
      }
    });
  }
}
