import type { Socket } from 'node:net';
import { errorResponse } from './wire/messages.ts';

const LAST_WORDS_MS = 10_000;

export interface Refusal {
  code: string;
  message: string;
  hint: string;
}

export const AWAY: Refusal = {
  code: '57P03',
  message: 'this node takes no sessions at the moment: it is starting, or its PostgreSQL is',
  hint: 'connect to another node, or try again in a moment',
};

/** In the words of PostgreSQL, by which pools and people know it. */
export const tooManyClients = (max: number): Refusal => ({
  code: '53300',
  message: 'sorry, too many clients already',
  hint: `this node takes ${max} sessions (--max-clients): connect to another node, or have clients share sessions in a pool`,
});

/** As a rule of pg_hba.conf that rejects answers. */
export const notForClients = (role: string): Refusal => ({
  code: '28000',
  message: `role "${role}" is pgtide's own: this port is for clients`,
  hint: "connect as tide, or as a role that was made for you; pgtide's own come by the PostgreSQL port (tide node status --all)",
});

/**
 * Tells a PostgreSQL client that has sent its startup message why it gets no session, as the error it can
 * show. Clients that meet a silent close cannot tell it from a broken network.
 */
export function refuseSession(client: Socket, refusal: Refusal): void {
  client.setTimeout(LAST_WORDS_MS, () => client.destroy());
  client.once('end', () => client.destroySoon());
  const { code, message, hint } = refusal;
  client.end(errorResponse({ S: 'FATAL', V: 'FATAL', C: code, M: message, H: hint }));
  client.resume();
}
