import type { Socket } from 'node:net';

/** PostgreSQL protocol 3, "Message Formats": codes in the place of a version, in the first messages of a client. */
const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;
const CANCEL_REQUEST = 80_877_102;
/** PostgreSQL's own bound (MAX_STARTUP_PACKET_LENGTH). */
const STARTUP_BYTES_MAX = 10_000;
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

/** A client's startup message, or its request to cancel, with whatever came behind it. */
export interface Startup {
  readonly isCancel: boolean;
  /** Whom the client wants to be; null in a request to cancel. */
  readonly role: string | null;
  readonly bytes: Buffer;
}

/**
 * Reads a client's first message, and answers requests for encryption before it with "no", as PostgreSQL does on its Unix socket. The socket is
 * paused then. Null: it is no such message; the socket is of no more use. How long that may take is for the caller to bound.
 */
export function readStartup(client: Socket, got: (startup: Startup | null) => void): void {
  let received: Buffer = Buffer.alloc(0);
  const take = (chunk: Buffer): void => {
    received = Buffer.concat([received, chunk]);
    for (;;) {
      const first = nextStartup(received);
      if (first === 'partial') return;
      if (first !== 'broken' && (first.code === SSL_REQUEST || first.code === GSS_REQUEST)) {
        received = received.subarray(first.bytes);
        client.write('N');
        continue;
      }
      client.off('data', take);
      client.pause();
      got(first === 'broken' ? null : startupOf(received, first));
      return;
    }
  };
  client.on('data', take);
  client.resume();
}

/**
 * Tells a PostgreSQL client that has sent its startup message why it gets no session, as the error it can show. Clients that meet a silent close
 * cannot tell it from a broken network.
 */
export function refuseSession(client: Socket, refusal: Refusal): void {
  client.setTimeout(LAST_WORDS_MS, () => client.destroy());
  client.once('end', () => client.destroySoon());
  client.end(errorResponse(refusal));
  client.resume();
}

function startupOf(bytes: Buffer, { bytes: length, code }: { bytes: number; code: number }): Startup {
  const isCancel = code === CANCEL_REQUEST;
  return { isCancel, role: isCancel ? null : roleIn(bytes.subarray(0, length)), bytes };
}

/** Names and values follow the version code, each with a zero behind it. PostgreSQL takes the last where one is given twice. */
function roleIn(message: Buffer): string | null {
  const words = message.toString('utf8', 8).split('\0');
  let role: string | null = null;
  for (let at = 0; at + 1 < words.length && words[at] !== ''; at += 2)
    if (words[at] === 'user') role = words[at + 1] ?? null;
  return role;
}

/** The length and version code of the startup message that `bytes` begins with. */
export function nextStartup(bytes: Buffer): { bytes: number; code: number } | 'partial' | 'broken' {
  if (bytes.length < 8) return 'partial';
  const length = bytes.readInt32BE(0);
  if (length < 8 || length > STARTUP_BYTES_MAX) return 'broken';
  return bytes.length < length ? 'partial' : { bytes: length, code: bytes.readInt32BE(4) };
}

/** A fatal ErrorResponse message: fields of one letter and a string each, a zero at the end. */
function errorResponse(error: Refusal): Buffer {
  const fields = { S: 'FATAL', V: 'FATAL', C: error.code, M: error.message, H: error.hint };
  const body = Buffer.from(
    `${Object.entries(fields)
      .map(([key, value]) => `${key}${value}\0`)
      .join('')}\0`,
  );
  const head = Buffer.alloc(5);
  head.write('E');
  head.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([head, body]);
}
