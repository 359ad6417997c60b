import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type AdminCommand, adminCommand } from '../../../../src/api/commands.ts';
import { TideError, tideError } from '../../../../src/core/errors.ts';

export type Answer = (command: AdminCommand) => unknown;

/** A node of which only the HTTP side is there: answers admin commands with what the test says, and quits. */
export class FakeNode {
  readonly asked: AdminCommand[] = [];
  /** Answers to come that are hung up on instead. */
  hangUps = 0;
  readonly id: number;
  readonly #server: Server;

  constructor(id: number, answer: Answer) {
    this.id = id;
    this.#server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      request.on('end', () => {
        if (this.hangUps > 0) {
          this.hangUps -= 1;
          request.socket.destroy();
          return;
        }
        response.setHeader('connection', 'close');
        response.end(JSON.stringify(this.#reply(request.url ?? '', body, answer)));
      });
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  #reply(url: string, body: string, answer: Answer): object {
    if (url === '/api/v1/whoami') return { result: { nodeId: this.id, clusterId: 'c' } };
    if (url === '/api/v1/quit') {
      this.#server.close();
      return { result: { nodeId: 4 } };
    }
    // Of a version that cannot be watched to its end.
    if (url === '/api/v1/farewell') return {};
    const command = adminCommand.parse(JSON.parse(body));
    this.asked.push(command);
    try {
      return { result: answer(command) };
    } catch (error) {
      const known = error instanceof TideError ? error : tideError('INTERNAL', { why: String(error) });
      return { error: known.toBody() };
    }
  }
}
