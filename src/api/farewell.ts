import { request } from 'node:http';
import type { Socket } from 'node:net';
import { OWN_CALL } from './headers.ts';

/**
 * What CONNECT asks for. Not an upgrade: whoever takes those takes every request that offers one, and clients
 * offer HTTP/2 with any. No browser lets a page send CONNECT.
 */
export const FAREWELL_TARGET = 'pgtide-farewell:0';

/**
 * One line of JSON. `ended`: all is done but the exit of the process; `postgres`: whether its PostgreSQL is
 * gone.
 */
export type FarewellWord = { says: string } | { ended: true; postgres: 'stopped' | 'runs' };

/** A node that is watched to its end. */
export interface Watch {
  /** What it said last that it does. */
  readonly says: string | null;
  /** Null while its process lives, or while the connection to its machine does not show that it has gone. */
  readonly end: { postgres: 'stopped' | 'runs' | 'unknown' } | null;
  close(): void;
}

const KEEPALIVE_MS = 5_000;

/**
 * Opens a connection to the node at `address` (HOST:PORT) that ends with its process. Null where nobody
 * answers within `timeoutMs`, or the node is of a version that does not know this.
 */
export function watchEnd(address: string, timeoutMs: number): Promise<Watch | null> {
  return new Promise((resolve) => {
    const asked = request(new URL(`http://${address}`), {
      method: 'CONNECT',
      path: FAREWELL_TARGET,
      headers: { [OWN_CALL]: '1' },
      agent: false,
    });
    const timer = setTimeout(() => asked.destroy(), timeoutMs);
    const answer = (watch: Watch | null) => {
      clearTimeout(timer);
      resolve(watch);
    };
    asked.on('connect', (response, socket, head) => {
      if (response.statusCode === 200) return answer(follow(socket as Socket, head));
      socket.destroy();
      answer(null);
    });
    asked.on('error', () => answer(null));
    asked.on('close', () => answer(null));
    asked.end();
  });
}

function follow(socket: Socket, head: Buffer): Watch {
  const watch = { says: null as string | null, end: null as Watch['end'], close: () => void socket.destroy() };
  let postgres: 'stopped' | 'runs' | 'unknown' = 'unknown';
  let text = '';
  const hear = (chunk: Buffer) => {
    text += chunk.toString();
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) {
      const word = JSON.parse(line) as FarewellWord;
      if ('ended' in word) postgres = word.postgres;
      else watch.says = word.says;
    }
  };
  socket.setKeepAlive(true, KEEPALIVE_MS);
  socket.on('error', () => {});
  socket.on('data', hear);
  socket.on('end', () => socket.destroy());
  socket.on('close', () => {
    watch.end = { postgres };
  });
  if (head.length > 0) hear(head);
  return watch;
}
